package safeexec

import "time"

type reportOption time.Duration

func (o reportOption) apply(c *config) { c.report = time.Duration(o) }

// WithReportBound gives a report as long as a test needs on a busy machine.
func WithReportBound(d time.Duration) Option { return reportOption(d) }
