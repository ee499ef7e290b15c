//go:build unix

package testproc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A Canary proves that a process tree is gone: a pipe whose write end the whole tree inherits. The
// end of the stream says that no process of it lives. Neither a zombie, which has no descriptors,
// nor a reused PID can fool it; only a program that closes descriptors it does not know can.
type Canary struct {
	r, w   *os.File
	target string // what /proc/PID/fd shows for the pipe
}

// NewCanary opens the pipe. When the test ends, processes that still hold the write end, if the
// platform tells which, are killed, so that a failed test leaves nothing; the pipe is closed.
func NewCanary(t testing.TB) *Canary {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &Canary{r: r, w: w}
	if fi, err := r.Stat(); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			c.target = fmt.Sprintf("pipe:[%d]", st.Ino)
		}
	}
	t.Cleanup(func() {
		c.CloseParent()
		if c.Alive() {
			c.kill(30 * time.Second)
		}
		r.Close()
	})
	return c
}

// WithCanary gives the command, and all that descends from it, a canary as its last descriptor.
func WithCanary(t testing.TB, cmd *exec.Cmd) *Canary {
	t.Helper()
	canary := NewCanary(t)
	cmd.ExtraFiles = append(cmd.ExtraFiles, canary.File())
	return canary
}

// File returns the write end, to be put into the ExtraFiles of the tree's leader.
func (c *Canary) File() *os.File { return c.w }

// CloseParent closes our own write end. Call it once the leader is started.
func (c *Canary) CloseParent() { c.w.Close() }

// Alive reports whether anybody holds the write end. That is true until CloseParent is called.
func (c *Canary) Alive() bool {
	conn, err := c.r.SyscallConn()
	if err != nil {
		return false
	}
	alive := true
	buf := make([]byte, 512)
	err = conn.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.Read(int(fd), buf)
			if n > 0 || err == syscall.EINTR {
				continue
			}
			alive = err == syscall.EAGAIN
			return true
		}
	})
	return alive && err == nil
}

// WaitGone closes our write end and waits until nobody else holds one. The test fails at its
// deadline, and on Linux names the processes that live.
func (c *Canary) WaitGone(t testing.TB) {
	t.Helper()
	c.CloseParent()
	if err := c.r.SetReadDeadline(deadline(t)); err != nil {
		t.Fatal(err)
	}
	defer c.r.SetReadDeadline(time.Time{})
	_, err := io.Copy(io.Discard, c.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the tree lives: %v", holders(c.target))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Holders returns the PIDs of the processes that have the pipe open, other than this one. It returns
// nothing except on Linux.
func (c *Canary) Holders() []int {
	var list []int
	for _, p := range holders(c.target) {
		list = append(list, p.pid)
	}
	return list
}

// Living describes the processes of the tree that live; it is empty if none does. Unlike WaitGone it does
// not wait for their end. A process that is just being started elsewhere has a copy of our write end
// until its exec, and is not one of them: it is waited for, however busy the machine is. If somebody holds the pipe and
// /proc does not show who, it looks again for two seconds. What hops from PID to PID for longer is living as well.
func (c *Canary) Living() []string {
	begun := time.Now()
	end := begun.Add(2 * time.Second)
	for c.Alive() {
		var list []string
		for _, p := range holders(c.target) {
			list = append(list, fmt.Sprint(p))
		}
		switch now := time.Now(); {
		case len(list) > 0:
		case aboutToExec(c.target) && now.Sub(begun) < patience:
			end = now.Add(2 * time.Second)
		case now.After(end):
			list = append(list, "somebody")
		}
		if len(list) > 0 {
			return list
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// kill ends all holders within d. What pins a number is the handle that FindProcess opened (a pidfd where
// there are any) before the second look at who holds the pipe.
//
// A chain that hops from PID to PID moves while the list is made, and can escape many looks in a row: it
// comes to rest after some thousands. So who is not seen is looked for until the time is over.
func (c *Canary) kill(d time.Duration) {
	for end := time.Now().Add(d); c.Alive() && time.Now().Before(end); {
		for _, p := range holders(c.target) {
			proc, err := os.FindProcess(p.pid)
			if err != nil {
				continue
			}
			if holds(p.pid, c.target) {
				proc.Kill()
			}
			proc.Release()
		}
		time.Sleep(time.Millisecond)
	}
}
