package sys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenTerminal opens the controlling terminal of this process, tty(4): ENXIO if it has none. It does
// not wait for the carrier of a serial line.
func OpenTerminal() (int, error) {
	for {
		fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OwnGroup returns the process group of this process.
func OwnGroup() int { return unix.Getpgrp() }

// ForegroundGroup returns the foreground process group of the controlling terminal fd
// (tcgetpgrp(3)). The group need not have a member any more.
func ForegroundGroup(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCGPGRP) }

// SetForegroundGroup makes group, of our session, the foreground process group of the controlling
// terminal fd (tcsetpgrp(3)). Out of the background that stops this whole process by SIGTTOU, unless
// the thread blocks it.
func SetForegroundGroup(fd, group int) error {
	return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group)
}

// TerminalModes are what stty(1) shows.
type TerminalModes = unix.Termios

// GetTerminalModes returns the modes of the terminal fd.
func GetTerminalModes(fd int) (TerminalModes, error) {
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return TerminalModes{}, err
	}
	return *modes, nil
}

// SetTerminalModes sets them at once: to wait for what is still to be written, which TCSETSW does,
// could be for ever where output was stopped with Ctrl-S. SIGTTOU as for SetForegroundGroup.
func SetTerminalModes(fd int, modes TerminalModes) error {
	return unix.IoctlSetTermios(fd, unix.TCSETS, &modes)
}

// Echoes reports whether what is typed is shown by the terminal itself.
func Echoes(modes TerminalModes) bool { return modes.Lflag&unix.ECHO != 0 }

// DiscardInput drops what was typed and not read. SIGTTOU as for SetForegroundGroup.
func DiscardInput(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }

// NewForeground returns a copy of attr whose process leads a process group of its own, which it
// makes the foreground group of the terminal fd before its execve. It reports false where attr asks
// for what that excludes.
func NewForeground(attr *syscall.SysProcAttr, fd int) (*syscall.SysProcAttr, bool) {
	var own syscall.SysProcAttr
	if attr != nil {
		own = *attr
	}
	if own.Setsid || own.Setctty || own.Noctty || own.Pgid != 0 {
		return nil, false
	}
	own.Setpgid, own.Foreground, own.Ctty = true, true, fd
	return &own, true
}

// WaitStopped blocks a thread until the child pid was stopped by a signal, and returns that signal. It
// returns 0 once the child has exited, and leaves it to be reaped.
func WaitStopped(pid int) syscall.Signal {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || info.Code < cldTrapped:
			return 0
		}
		// Now the report of the stop is taken, so that the next call waits for the next one.
		info = unix.Siginfo{}
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil)
		if err == nil && info.Signo != 0 {
			return childStatus(&info)
		}
	}
}

// KilledUnreaped reports whether the child pid is a zombie of ours that died of a signal.
func KilledUnreaped(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	return err == nil && info.Signo != 0 && info.Code > cldExited && info.Code < cldTrapped
}

// cldExited is CLD_EXITED of sigaction(2); the codes up to CLD_TRAPPED are the deaths by a signal.
const cldExited = 1
