// Package execstop starts a command so that it stops before its first instruction, to be looked at
// and set up, and lets it go or kills it.
//
// The stop is that of ptrace(2): the child asks to be traced, and execve stops it when the new
// program is in place, close-on-exec descriptors are closed and no instruction of the program, its
// interpreter or its dynamic loader has run. A tracee obeys one thread, so everything between Start and
// Close happens on the thread that started it.
//
// What can happen in between, and why none of it loses a signal or hangs:
//
//   - A signal to the child before its execve would stop it there, traced and with us in vfork(2),
//     waiting for that execve: for ever. So the thread blocks all asynchronous signals before the
//     clone, the child inherits that, and is given the set that it should have when it is let go.
//     What was sent meanwhile is pending until then and is delivered then. (SIGSTOP cannot be
//     blocked: one that comes within the microsecond between ptrace and execve stops both of us.)
//   - A signal to the child during execve or the stop is pending all the same: the stop's SIGTRAP is
//     delivered first, because it is one that the thread itself caused (signal(7)), and there is no
//     other stop before the child is let go. Should one come nevertheless, it is passed on.
//   - SIGKILL takes the child out of the stop at any time, also ours. Requests are ESRCH from then on;
//     the child is a zombie or on its way there, which [Stop.Exited] tells from "has not stopped yet".
//   - The kernel may kill the child in execve, past the point where execve could still fail. It was
//     started then, and died: Stopped is never true, Exited is.
//   - A foreign wait4(-1) may take the report of the stop. We do not wait for it but ask the child,
//     which only a stopped one answers.
//   - The deadline passes: the caller asks in a loop of its own, and kills. SIGKILL needs no stop.
//   - We die: the kernel lets the child go. It runs with signals blocked, unless it is looked after by
//     SysProcAttr.Pdeathsig.
package execstop

import "errors"

// ErrRefused says that this process, or the child, may not use ptrace: a seccomp filter, Yama, or
// because another process traces the child already.
var ErrRefused = errors.New("ptrace is refused")
