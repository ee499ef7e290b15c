package main

// A share is a part of a run that can be left out, by the names that internal/sys has for it. Without
// it a promise is not kept: it is left out to show what it costs.
type share struct {
	impl    string
	what    string
	without []string
}

// sharesOf are those that are measured, the whole run first.
var sharesOf = []share{
	{subject, "", nil},
	{subject + againSuffix, "the whole run again", nil},
	{"without-slice", "the slice mark", []string{"slice"}},
	{"without-limit", "the limit mark", []string{"limitmark"}},
	{"without-environment", "the environment mark", []string{"environmark"}},
	{"without-sweep", "the sweep", []string{"sweep"}},
	{"without-any", "all four", []string{"slice", "limitmark", "environmark", "sweep"}},
}

// shares measures a no-op without each of the marks and without the sweep, against the whole run.
// Each is a process of its own, and all of them take turns.
func shares(b *bench) error {
	var list []entry
	for _, w := range sharesOf {
		s, err := openServer(w.without)
		if err != nil {
			return err
		}
		defer s.close()
		list = append(list, entry{w.impl, s.once})
	}
	lanes := race(b.note, list, 2*b.pairs) // the effects are small
	b.report.addRace(subject, "shares", "program=noop", lanes, secPerOp, cpuPerOp)
	return nil
}
