package testproc

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// HoldPipes has a process outside of any tree open the output pipes of pid, stdout as 12 and stderr as
// 13, and hold them until the test ends, as no descendant would: it was handed nothing.
func HoldPipes(t testing.TB, pid int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(HasProgram(t, "bash"), "-c",
		`exec 12>/proc/$0/fd/1 13>/proc/$0/fd/2 && echo ready $$ && exec sleep 600 >/dev/null 2>&1`, strconv.Itoa(pid))
	StartStranger(t, cmd)
	return cmd
}

// StartStranger starts cmd and returns its ready line. It is killed at the end of the test.
func StartStranger(t testing.TB, cmd *exec.Cmd) []int {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return Ready(t, out)
}

// BystanderCommand returns the command of a program that is no run's, in a process group of its own.
func BystanderCommand(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(HasProgram(t, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// StartBystander starts it and returns its PID. The group is killed at the end of the test.
func StartBystander(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	canary := WithCanary(t, cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the unreaped leader pins the group's number
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		canary.WaitGone(t)
	})
	return cmd.Process.Pid
}
