package proctree

// settle returns the run that a process belongs to by its marks, 0 if they do not tell. It is given the run that each
// of them names, 0 for none.
//
// A process can change each of its marks: that it bears another's proves nothing by itself, and no track alone
// rules it out. Two that agree count for more than the third. Where all that speak disagree, the slice counts
// for most, since a process has it from birth and no common command changes it; then the environment, which other
// users cannot read; and the limit least, which prlimit(1) shows of every process and sets.
//
// What a process cannot change comes before that. It cannot join a session, and with a living member as its parent
// it descends from that; so the session of the leader and a member as the parent prove that it is ours, and the
// session of another run's leader that it is not. Older than the leader it does not descend from it.
//
// The table is that of a process that has left the leader's session and lost its parent:
//
//	limit      | slice      | environment  | the process is
//	ours       | ours       | not asked    | ours, as it is born
//	ours       | none       | ours, none   | ours
//	none       | ours       | not asked    | ours
//	none       | none       | ours         | ours, if it is asked: where there is no limit or slice mark in force
//	none       | none       | none         | unknown
//	ours       | ours'      | any          | nested: a run within the tree adds its number to the slice
//	none known | ours'      | ours, none   | nested: limits were reset before that run began
//	none known | none       | ours         | nested: there are several runs between, or it chose a slice
//	none known | ours       | ours, none   | ours: it set its own limit
//	none known | ours       | the limit's  | foreign: the slice is ours by chance, as one in a million is
//	none known | its own    | not asked    | foreign: a run of another program
//	none known | none       | none         | unknown
//	a run's    | the run's  | not asked    | foreign: that run ends it
//	a run's    | none       | the run's    | foreign
//	a run's    | none       | none         | foreign: nothing says that it is ours
//	a run's    | none       | ours         | ours: it took the mark of that run
//	a run's    | ours       | ours, none   | ours, likewise
//	a run's    | ours       | the run's    | foreign: it took our slice
//	ours       | a run's    | ours         | ours, likewise: it took that run's slice
//	ours       | a run's    | none         | foreign: it took our mark
//	ours       | a run's    | the run's    | foreign, likewise
//	ours       | none       | a run's      | foreign, likewise
//
// "A run" is another run of this process that is not over, and "none known" a mark of no such run. To be unknown and
// to be foreign come to the same: the process is not signaled. Of two runs of this process that a process bears the
// marks of, exactly one takes it for its own.
func settle(limit, slice, environ uint32) uint32 {
	switch {
	case environ != 0 && environ == limit:
		return limit
	case slice != 0:
		return slice
	case environ != 0:
		return environ
	}
	return limit
}
