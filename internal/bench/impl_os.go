package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// runTimeout bounds a run where the implementation takes a bound.
const runTimeout = 10 * time.Minute

// defaultWaitDelay is what careful code sets.
const defaultWaitDelay = 2 * time.Second

// osBare is os/exec as most programs use it.
func osBare(j *job) (outcome, error) {
	return runOS(exec.Command(j.argv[0], j.argv[1:]...), j)
}

// osSafe is os/exec with all that it has for safety.
func osSafe(j *job) (outcome, error) { return osWith(j, syscall.SysProcAttr{Setpgid: true}) }

// osSession is the same in a session of its own, as safeexec starts its commands. Where the kernel
// schedules by session (sched(7), autogroup), that alone changes how long a command waits for a CPU.
func osSession(j *job) (outcome, error) { return osWith(j, syscall.SysProcAttr{Setsid: true}) }

func osWith(j *job, attr syscall.SysProcAttr) (outcome, error) {
	ctx, cancel := context.WithTimeout(j.context(), runTimeout)
	defer cancel()
	cmd := safeCmd(ctx, j)
	cmd.SysProcAttr = &attr
	out, err := runOS(cmd, j)
	if j.linger > 0 && errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out, err
}

func safeCmd(ctx context.Context, j *job) *exec.Cmd {
	cmd := exec.CommandContext(ctx, j.argv[0], j.argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = defaultWaitDelay
	if j.linger > 0 {
		cmd.WaitDelay = j.linger
	}
	return cmd
}

func runOS(cmd *exec.Cmd, j *job) (outcome, error) {
	var stdout, stderr bytes.Buffer
	capped := capWriter{limit: j.keep}
	cmd.Stdin = j.stdin
	cmd.Stderr = &stderr
	switch {
	case j.stdout != nil:
		cmd.Stdout = j.stdout
	case j.keep > 0:
		cmd.Stdout = &capped
	default:
		cmd.Stdout = &stdout
	}
	err := cmd.Run()
	return outcome{total: int64(stdout.Len()) + capped.total}, err
}

// capWriter keeps the first limit bytes and counts all. The buffer is a field and not embedded: its
// ReadFrom would go around the limit.
type capWriter struct {
	limit int
	kept  bytes.Buffer
	total int64
}

var _ io.Writer = (*capWriter)(nil)

func (w *capWriter) Write(p []byte) (int, error) {
	w.total += int64(len(p))
	if room := w.limit - w.kept.Len(); room > 0 {
		w.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
