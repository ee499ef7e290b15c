package safeexec

import (
	"github.com/seed841d8200/safeexec/internal/engine"
)

// Tracks is a set of the independent ways by which the processes of a tree are told from all others.
// Each alone has a hole; a process is lost where it has slipped through all that were in force. Linux
// only: elsewhere the set is empty.
type Tracks uint

// The tracks.
const (
	// TrackSession is the session that the leader leads. Whoever calls setsid(2) leaves it.
	TrackSession = Tracks(engine.TrackSession)
	// TrackGroup stands in for it where the leader stays in the session of this process. Whoever
	// calls setpgid(2), as a shell with job control does for each job, leaves it.
	TrackGroup = Tracks(engine.TrackGroup)
	// TrackLimit is a mark in the soft limit RLIMIT_RTTIME, getrlimit(2), a number that limits
	// nothing. It is inherited by everybody who is born later than some ten microseconds after the
	// leader's first instruction. pam_limits(8), which su(1) runs, resets it. It can not be had for
	// commands that run as another user unless this process has CAP_SYS_RESOURCE, where the hard
	// limit is lowered, and on kernels of 32 bits.
	TrackLimit = Tracks(engine.TrackLimit)
	// TrackSlice is a mark in the time slice, sched_setattr(2), of at most a millisecond, that the
	// leader is born with. It needs Linux 6.12 and a fair scheduling policy; programs that choose
	// their own slice or real-time scheduling lose it.
	TrackSlice = Tracks(engine.TrackSlice)
	// TrackParent is the parent of each process, as long as it lives.
	TrackParent = Tracks(engine.TrackParent)
	// TrackEnvironment is the variable SAFEEXEC_RUN. Programs that write their title over their
	// environment, and env -i, lose it.
	TrackEnvironment = Tracks(engine.TrackEnvironment)
	// TrackCgroup is the cgroup that the leader is born in, see [WithContainment].
	TrackCgroup = Tracks(engine.TrackCgroup)
	// TrackAdoption finds nobody: it says that orphans of the tree became children of this process,
	// and were reaped when they had died. See [SetSubreaper]; the first process of a PID namespace adopts
	// without that.
	TrackAdoption = Tracks(engine.TrackAdoption)
)

// Has reports whether all of the given tracks are in the set.
func (t Tracks) Has(tracks Tracks) bool { return t&tracks == tracks }

// String lists the tracks, separated by commas.
func (t Tracks) String() string { return engine.Tracks(t).String() }
