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

// lendingOf is what a stream that lasts costs without lending, the whole run first.
var lendingOf = []share{
	{subject, "", nil},
	{subject + againSuffix, "much data, the whole run again", nil},
	{"without-lending", "much data, without lending the pipes", []string{"lending"}},
}

// The cases of shares.
const (
	sharesNoop = "program=noop"
	sharesMuch = "stdin=Reader/stdout=Writer"
)

// shares measures a no-op without each of the marks and without the sweep, and much data without lending, against the
// whole run.
func shares(b *bench) error {
	if err := b.without(sharesOf, sharesNoop, 0, 2*b.pairs); err != nil { // the effects are small
		return err
	}
	return b.without(lendingOf, sharesMuch, b.bytes, b.few)
}

// without races the shares. Each is a process of its own, and all of them take turns.
func (b *bench) without(of []share, name string, bytes int64, rounds int) error {
	var list []entry
	for _, w := range of {
		s, err := openServer(w.without, bytes)
		if err != nil {
			return err
		}
		defer s.close()
		list = append(list, entry{w.impl, s.once})
	}
	b.report.addRace(subject, "shares", name, race(b.note, list, rounds), secPerOp, cpuPerOp)
	return nil
}
