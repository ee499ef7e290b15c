// Package testproc holds what the tests of this module share: helper programs that live inside the
// test binary, proof that a process tree is gone, and leak checks at the end of a run. Only tests
// import it.
//
// A package that uses it has one TestMain:
//
//	func TestMain(m *testing.M) {
//		testproc.Main(m, testproc.Uses("hang", "spew"), testproc.Warm(openProcessWideFiles))
//	}
//
// and its tests start helpers by name:
//
//	canary := testproc.NewCanary(t)
//	cmd := testproc.Command("ignore", "TERM")
//	cmd.ExtraFiles = []*os.File{canary.File()}
//	…
//	canary.WaitGone(t) // nobody of the tree lives
//
// # Helpers
//
// Each helper removes the variable that selected it from its environment, prints its ready line
// only after its handlers stand, and is ended after ten minutes, even while it is stopped. A ready
// line is "ready", the helper's own PID, then the PIDs of the children it waited for; [Ready] reads
// one. Helpers inherit standard input, output and error, and every descriptor the test passed on,
// to their own children.
//
//	exit N              ends with status N
//	hang                prints ready, then sleeps for ever
//	spew N [FD]         writes N bytes of the pattern (see CheckPattern) to FD, 1 by default
//	spew-forever [FD]   writes the pattern for ever
//	echo-stdin          copies standard input to standard output
//	slow N [PAUSE]      prints "line 1" … "line N"; before each it waits for a line on standard
//	                    input, or, if PAUSE is given, for that long; end of input is status 3
//	args ARG...         prints each argument quoted, one a line
//	env NAME            prints the variable's value; status 1 if it is not set
//	cwd                 prints $PWD, then the directory the kernel reports
//	stderr TEXT         writes TEXT to standard error
//	close-stdout-hang   prints ready, closes standard output and error, then sleeps for ever
//
// On Unix also:
//
//	ignore SIG...       ignores the signals, prints ready, then sleeps for ever
//	stop-self           prints ready and stops itself; prints "continued" if it is continued
//	exit-by-signal SIG  dies of the signal itself, not of a handler, and leaves no core file
//	term-exit N         prints ready; on SIGTERM prints "terminated" and ends with status N
//	hear SIG...         prints ready, then the number of each of these signals that comes
//	hold-fd N           prints ready, closes all it inherited but descriptor N, sleeps for ever
//	fork N              starts N children that hang, prints ready and their PIDs, sleeps for ever
//	fork-term [setsid]  prints ready; on SIGTERM starts another fork-term (in a session of its own
//	                    with setsid), prints "forked" and its PID, and ends with status 0
//	background          starts a child that hangs in its process group, prints "start ok" and the
//	                    child's PID, and ends with status 0; the child holds standard output
//	daemonize           starts a daemon by double fork and setsid, prints ready, its own PID and
//	                    the daemon's, and ends with status 0; the daemon holds standard output
//	grandchild-term     starts a child, prints ready and its PID; on SIGTERM it ends at once, while
//	                    the child prints "child got TERM", waits for a line or the end of standard
//	                    input, prints "child done" and ends with status 0
//
// On Linux also:
//
//	fds                 prints the descriptors it was born with: number and target, one a line
//
// A helper that does not say otherwise takes signals as Go programs do: HUP, INT and TERM kill it,
// QUIT makes it print its goroutines and end with status 2, USR1, USR2 and ALRM do nothing.
//
// # Escapees, bystanders and witnesses
//
// On Linux there is also a program in C, [EscapeeProgram], that builds trees of the kinds that get away
// from whoever started them; a [Bystander] notices whether any signal reached it; a [Witness] does for
// daemons, which close descriptors, what a [Canary] does for others.
//
// # What the leak checks cover
//
// Goroutines on every platform; children and descriptors on Linux only. Everything here works for
// an ordinary user and where PID 1 does not reap, except the hung file systems, which need root and
// skip the test otherwise. The checks are about the whole process, so [NoLeaks] is not for tests
// that run in parallel with others.
package testproc
