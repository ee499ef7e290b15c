package testproc

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A PTY is a pseudo-terminal, and the test is who sits at it: it types, and reads the screen.
type PTY struct {
	master *os.File
	slave  *os.File
	screen []byte // what was read and not yet waited for
}

// NewPTY opens a pseudo-terminal (pty(7)). It hangs up at the end of the test at the latest.
func NewPTY(t testing.TB) *PTY {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	p := &PTY{master: master}
	t.Cleanup(func() { p.CloseSlave(); p.HangUp() })
	p.control(t, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		// By the descriptor and not by a path: another devpts may be mounted (ioctl_tty(2)).
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER,
			unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno != 0 {
			return errno
		}
		p.slave = os.NewFile(peer, "pty")
		return nil
	})
	return p
}

func (p *PTY) control(t testing.TB, f func(fd int) error) {
	t.Helper()
	conn, err := p.master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	if inner != nil {
		t.Fatalf("pty: %v", inner)
	}
}

// Slave returns the end that a program has as its terminal.
func (p *PTY) Slave() *os.File { return p.slave }

// CloseSlave leaves the program alone with its end.
func (p *PTY) CloseSlave() { p.slave.Close() }

// HangUp closes our end, as a terminal window does.
func (p *PTY) HangUp() { p.master.Close() }

// Type types.
func (p *PTY) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		t.Fatalf("typing %q: %v", keys, err)
	}
}

// WaitScreen waits until the screen shows text, later than what the last call waited for.
func (p *PTY) WaitScreen(t testing.TB, text string) {
	t.Helper()
	p.until(t, text, func() int { return bytes.Index(p.screen, []byte(text)) })
}

// ReadLine returns the rest of the line after what was waited for last.
func (p *PTY) ReadLine(t testing.TB) string {
	t.Helper()
	line := ""
	p.until(t, "\n", func() int {
		i := bytes.IndexByte(p.screen, '\n')
		if i >= 0 {
			line = string(p.screen[:i])
		}
		return i
	})
	return strings.TrimRight(line, "\r")
}

// until reads until found returns where text begins, and drops everything up to its end.
func (p *PTY) until(t testing.TB, text string, found func() int) {
	t.Helper()
	if err := p.master.SetReadDeadline(deadline(t)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if i := found(); i >= 0 {
			p.screen = p.screen[i+len(text):]
			return
		}
		n, err := p.master.Read(buf)
		p.screen = append(p.screen, buf[:n]...)
		if err != nil && n == 0 {
			t.Fatalf("the screen does not show %q: %v; it shows %q", text, err, p.screen)
		}
	}
}

// Foreground returns the foreground process group of the terminal.
func (p *PTY) Foreground(t testing.TB) (group int) {
	t.Helper()
	p.control(t, func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return group
}

// Modes returns what stty(1) shows.
func (p *PTY) Modes(t testing.TB) (modes unix.Termios) {
	t.Helper()
	p.control(t, func(fd int) error {
		found, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			modes = *found
		}
		return err
	})
	return modes
}

// Echoes reports whether the terminal shows what is typed.
func (p *PTY) Echoes(t testing.TB) bool {
	t.Helper()
	return p.Modes(t).Lflag&unix.ECHO != 0
}

// WaitEcho waits until the terminal shows what is typed, or with "off" until it does not.
func (p *PTY) WaitEcho(t testing.TB, state string) {
	t.Helper()
	if !poll(t, func() bool { return p.Echoes(t) == (state != "off") }) {
		t.Fatalf("the terminal's echo is not %s", state)
	}
}

// Resize changes the size of the window.
func (p *PTY) Resize(t testing.TB, rows, columns int) {
	t.Helper()
	p.control(t, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)})
	})
}
