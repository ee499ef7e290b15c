// Package job starts commands that outlive the call and the program, and finds them again.
//
// A [Store] is a directory with a record of each job. [Store.Start] starts one, [Store.Adopt] takes
// over what another program has left, [Store.Find] and [Store.List] return handles, and [Job.Stop]
// ends a job with all of its tree. [Store.Run] is for a command that should be over soon, and goes
// on as a job if it is not.
//
// A job holds no pipe of the program: it writes its log by itself, so that it neither blocks nor dies
// for want of a reader. It is a plain child in a session of its own. When the program ends, PID 1 or a
// subreaper adopts it.
//
// # What is signaled
//
// A record names the boot, the namespaces of PIDs and of time, the first process by number and start
// time, and the marks that its tree has inherited: a soft limit RLIMIT_RTTIME and the variable SAFEEXEC_RUN. A
// number alone proves nothing. No process is signaled for a record of another boot, [Gone], or of other
// namespaces, [Elsewhere], or for a record that matches no process, [Gone]. A process that has shed the
// marks, the session and its parent all at once is not found, as with package safeexec; without a limit
// mark (a set-user-ID program, a hard limit that is too low) neither is one that leaves the session, loses
// its parent and clears its environment. What a job asks another service to start, as systemd-run
// does, is not part of its tree.
//
// A job that is started within a Run of package safeexec belongs to that run, which ends it.
//
// It is one package because records, holders and restarts are one protocol between processes.
//
// # When the program is killed
//
// SIGKILL of the program leaves, by the step that it came in:
//
//	step                          what is there            what Adopt does
//	before the intent             a directory, no record   nothing; Clean removes it
//	intent written, not started   a record, no process     writes that it has ended
//	started, stopped at execve    a record; the command    nothing is left: the same
//	                              dies with the program
//	... within the microseconds   a record; the command    finds it by its environment, and ends it
//	before it is bound to that    may run
//	committed, not released       a record; the command    writes that it has ended
//	                              dies with the program
//	released                      the job                  keeps it: timeout, log, messages
//	Stop under way                the job, some signaled   keeps it; the timeout counts, the Stop does not
//	log being bounded             the job, the log whole   goes on with it
//	ended, not written            a record, no process     writes that it has ended, status unknown
//
// Where the command cannot be stopped at execve (ptrace is refused, or its file gives it privilege), it
// runs from the start on. If the program is killed between start and commit, Adopt finds the command by
// its environment and ends it, unless it has cleared that.
//
// A new record replaces the old one by rename, after a sync, so that it is never torn. The program syncs
// it before the step that it announces. A power failure ends the jobs too: their records are of
// another boot.
//
// While no program keeps a job, its timeout is not enforced, its log is not bounded, and its messages and
// its exit status are not received. Adopt makes up for the first three.
//
// # The exit status
//
// A living program sees how its own child ended. It sees how the first process of an adopted job ended
// on Linux 6.15 and later, or while that process is a zombie. Otherwise the status is unknown:
// [Status.Exit] is nil.
//
// [KeepStatus] keeps it in all cases: a small process, the holder, is the parent of the first process
// instead of the program, waits for it and records how it ended. Any program that looks at the job then
// has the status, on any kernel, whether or not a program lived meanwhile. To start such a job the program
// needs a copy of itself, see [Init]. The holder has no descriptor of the program, is not part of the
// job's tree, outlives the program and ends with the job's first process. It shares the lock of the
// record until the job runs. Where the table above says that the command dies with the program, it dies
// with the program or the holder until the record names it, and with the holder alone from there to the
// release, so that a program that is killed then leaves the whole job. If the holder is killed later, the
// job goes on and the status is unknown. Nor is the status known if the disk refuses it.
//
// Except on Linux, [Open] returns [safeexec.ErrUnsupported].
package job
