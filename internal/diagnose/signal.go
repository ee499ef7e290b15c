package diagnose

import "syscall"

// signalName returns the name of a signal, as in signal(7) for those that stop a process.
func signalName(sig int) string {
	switch syscall.Signal(sig) {
	case stopSIGSTOP:
		return "SIGSTOP"
	case stopSIGTSTP:
		return "SIGTSTP"
	case stopSIGTTIN:
		return "SIGTTIN"
	case stopSIGTTOU:
		return "SIGTTOU"
	}
	return "signal " + number(sig)
}

// The numbers on Linux, except on MIPS, for which there is no table of system calls either. Not every
// platform's package syscall has them.
const (
	stopSIGSTOP = syscall.Signal(19)
	stopSIGTSTP = syscall.Signal(20)
	stopSIGTTIN = syscall.Signal(21)
	stopSIGTTOU = syscall.Signal(22)
)
