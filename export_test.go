package safeexec

import "time"

type reportOption time.Duration

func (o reportOption) apply(c *config) { c.report = time.Duration(o) }

// WithReportBound gives a report as long as a test needs on a busy machine.
func WithReportBound(d time.Duration) Option { return reportOption(d) }

// PipesAreSeen says that what StdoutPipe and its kin opened is where it is looked for.
var PipesAreSeen = pipesField != nil
