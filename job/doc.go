// Package job starts commands that outlive the call and the program, and finds them again.
//
// A [Store] is a directory with a record of each job. [Store.Start] starts one, [Store.Adopt] takes
// over what another program has left, [Store.Find] and [Store.List] return handles, and [Job.Stop]
// ends a job with all of its tree. [Store.Run] is for a command that should be over soon, and goes
// on as a job if it is not.
//
// A job has no pipe of the program in it: it writes its log by itself, so that it neither blocks
// nor dies when nobody reads. It is a plain child in a session of its own. When the program ends,
// the first process or a subreaper adopts it.
//
// # Who is signaled
//
// A record names the boot, the namespaces of PIDs and of time, the first process by number and start
// time, and the marks that its tree has inherited: a soft limit RLIMIT_RTTIME and the variable SAFEEXEC_RUN. A
// number alone is never believed. Nobody is signaled for a record of another boot or of other
// namespaces, or that fits nobody: that job is [Gone]. Not found are processes that have shed the
// marks, the session and their parent all at once, as with package safeexec; without a limit mark
// (a set-user-ID program, a hard limit that is too low) one that leaves the session, loses its
// parent and clears its environment. Whatever a job asks another service to start, as systemd-run
// does, is not of its tree.
//
// A job that is started within a Run of package safeexec belongs to that run, which ends it.
//
// # When the program is killed
//
// SIGKILL of the program leaves, by the step that it came in:
//
//	step                          what is there            what Adopt does
//	before the intent             a directory, no record   nothing; Clean removes it
//	intent written, not started   a record, nobody         writes that it has ended
//	started, stopped at execve    a record; the command    nothing is left: the same
//	                              dies with the program
//	... within the microseconds   a record; the command    finds it by its environment, and ends it
//	before it is bound to that    may run
//	committed, not released       a record; the command    writes that it has ended
//	                              dies with the program
//	released                      the job                  keeps it: timeout, log, messages
//	Stop under way                the job, some signaled   keeps it; the timeout counts, the Stop does not
//	log being bounded             the job, the log whole   goes on with it
//	ended, not written            a record, nobody         writes that it has ended, status unknown
//
// Where the command cannot be stopped at execve (ptrace is refused, or its file gives it
// privilege), it runs from the start on, and what is killed between start and commit is found by
// its environment and ended, unless it has cleared that.
//
// A record is replaced by rename after it was synced, so that it is never torn. The program syncs
// it before the step that it announces. A power failure ends the jobs too: their records are of
// another boot.
//
// While no program keeps a job, nobody enforces its timeout, bounds its log, receives its messages
// or sees its exit status. Adopt makes up for the first three.
//
// # The exit status
//
// A program that lives sees how its own child ended. How the first process of an adopted job ended
// it sees on Linux 6.15 and later, or while that is a zombie. Otherwise the status is unknown:
// [Status.Exit] is nil.
//
// [KeepStatus] keeps it otherwise: a small process, which is the parent of the first process instead
// of the program, waits for it and writes down how it ended. Whoever looks at the job then has the
// status, on any kernel, whether or not a program lived meanwhile. To start such a job the program
// needs a copy of itself, see [Init]. That process has no descriptor of the program, is not of the
// job's tree, outlives the program and ends with the job's first process. It shares the lock of the
// record until the job runs: where the table above says that the command dies with the program, it
// dies with either, until the record says who it is, and with that process alone from there to the
// release, so that a program that is killed then has left the job, whole. Killed later, that process
// leaves the job as it is, and the status unknown. Nor is it known if the disk refuses it.
//
// Except on Linux, [Open] returns [safeexec.ErrUnsupported].
package job
