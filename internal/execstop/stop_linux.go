package execstop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Stop is one command at, or on its way to, its exec stop.
type Stop struct {
	child  *os.Process
	before sys.SignalSet // what the child is to block: what our thread did
	there  bool          // it was seen to have stopped
}

// Start starts cmd and locks the goroutine to its thread. If there is no error, Close must be
// called. cmd.SysProcAttr must be the caller's own copy.
func Start(cmd *exec.Cmd) (*Stop, error) {
	runtime.LockOSThread()
	s := Stop{}
	var err error
	if s.before, err = sys.BlockSignals(); err == nil {
		sys.Trace(cmd.SysProcAttr)
		err = cmd.Start()
		sys.RestoreSignals(s.before)
	}
	if err != nil {
		runtime.UnlockOSThread()
		if refused := refusal(); refused != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, refused)
		}
		return nil, err
	}
	s.child = cmd.Process
	return &s, nil
}

// refusal tells a child that may not be traced from one whose execve failed: os/exec reports both
// alike. It starts a program without a name, whose execve is ENOENT and nothing else
// (path_resolution(7)), so that another error is that of ptrace.
func refusal() error {
	_, err := os.StartProcess("", []string{""}, &os.ProcAttr{Sys: traced()})
	switch {
	case errors.Is(err, syscall.ENOENT):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM):
		return nil // no child, no verdict: the error of the start itself says more
	}
	return err
}

func traced() *syscall.SysProcAttr {
	var attr syscall.SysProcAttr
	sys.Trace(&attr)
	return &attr
}

// Stopped reports whether the command stands before its first instruction.
func (s *Stop) Stopped() (bool, error) {
	if s.there {
		return true, nil
	}
	sig, err := sys.TraceStop(s.child.Pid)
	switch {
	case err != nil:
		return false, os.NewSyscallError("ptrace", err)
	case sig == 0:
		return false, nil
	case sig != syscall.SIGTRAP:
		if err := sys.TraceGoOn(s.child.Pid, sig); err != nil && !sys.Gone(err) {
			return false, os.NewSyscallError("ptrace", err)
		}
		return false, nil
	}
	s.there = true
	return true, nil
}

// Exited reports whether the command is dead. Nobody has reaped it but a foreign wait.
func (s *Stop) Exited() bool { return proctree.Exited(s.child) }

// Release lets the command run.
func (s *Stop) Release() error {
	err := sys.TraceDetach(s.child.Pid, s.before)
	if sys.Gone(err) {
		return nil // killed in the stop
	}
	return os.NewSyscallError("ptrace", err)
}

// Kill ends the command, in its stop or on the way there.
func (s *Stop) Kill() { _ = s.child.Kill() }

// Close gives the thread back.
func (s *Stop) Close() { runtime.UnlockOSThread() }

// LosesPrivilege reports whether the program that stands there would have run as another user or
// with more capabilities, had it not been traced: set-user-ID, set-group-ID and file capabilities
// have no effect under a tracer without CAP_SYS_PTRACE (execve(2)). The file looked at is the one
// whose privileges count, which for a script is its interpreter.
func (s *Stop) LosesPrivilege() (bool, error) {
	if sys.MayTraceAll() {
		return false, nil
	}
	lost, err := sys.Privileged(fmt.Sprintf("/proc/%d/exe", s.child.Pid))
	if err != nil {
		return false, fmt.Errorf("the program's file: %w", err)
	}
	return lost, nil
}
