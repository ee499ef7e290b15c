package rules

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
	"golang.org/x/sys/unix"
)

func start() {
	_, _ = os.StartProcess("true", nil, nil)  // want `os.StartProcess starts a process that nothing bounds`
	_, _ = syscall.ForkExec("true", nil, nil) // want `syscall.ForkExec starts`
	f := os.StartProcess                      // want `os.StartProcess starts`
	_ = f
	_, _ = os.FindProcess(1)
}

func groups(pid int, cmd *exec.Cmd) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)             // want `kill of a negative PID`
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // want `kill of a negative PID`
	_ = syscall.Kill(-1*pid, syscall.SIGKILL)           // want `kill of a negative PID`
	_ = unix.Kill((-pid), syscall.SIGKILL)              // want `kill of a negative PID`
	_ = syscall.Kill(-1, syscall.SIGKILL)               // want `kill of a negative PID`
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_ = syscall.Kill(2*pid, syscall.SIGKILL)
	_ = syscall.Kill(^pid, syscall.SIGKILL)
}

var global = syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // want `Pdeathsig is sent when the thread ends`

func unlocked(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,
		Pdeathsig: syscall.SIGKILL, // want `Pdeathsig is sent`
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // want `Pdeathsig is sent`
	cmd.SysProcAttr.Pdeathsig = 0
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: 0}
	go func() {
		runtime.LockOSThread()
	}()
}

func locked(cmd *exec.Cmd) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	func() { cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM }()
}

// A field of the same name that is another's.
type mine struct{ Pdeathsig int }

var _ = mine{Pdeathsig: 9}

func dropped(ctx context.Context, cmd *exec.Cmd) {
	safeexec.Run(ctx, cmd)    // want `the error of safeexec.Run is dropped`
	go safeexec.Run(ctx, cmd) // want `the error of safeexec.Run is dropped`
	safeexec.Output(ctx, cmd) // want `the error of safeexec.Output is dropped`
	p, _ := safeexec.Start(ctx, cmd)
	defer p.Stop() // want `the error of Process.Stop is dropped`
	p.Wait()       // want `the error of Process.Wait is dropped`
	_, _ = p.Stop()
	_, err := p.Wait()
	_ = err
}

const none = 0 * time.Second

func timeouts(d time.Duration) {
	safeexec.WithTimeout(0)                // want `WithTimeout\(0\) is refused by Run: it must be positive`
	safeexec.WithTimeout(none)             // want `WithTimeout\(none\) is refused`
	safeexec.WithIdleTimeout(-time.Second) // want `WithIdleTimeout\(-time.Second\) is refused`
	safeexec.WithTimeout(time.Second)
	safeexec.WithTimeout(d)
}
