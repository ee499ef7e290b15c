package job

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A socket is where a job's sd_notify(3) arrives.
type socket struct {
	path     string
	conn     *net.UnixConn
	ready    chan struct{}      // closed by READY=1
	extended chan time.Duration // what EXTEND_TIMEOUT_USEC says; the last one counts

	once  sync.Once
	pings chan struct{}          // one a WATCHDOG=1
	text  atomic.Pointer[string] // of the last STATUS=
	told  chan struct{}          // that there is something new to write down
}

// maxSocketPath is what fits into sun_path (unix(7)).
const maxSocketPath = 107

// listen makes the socket of a job, in its directory if the path is short enough and the job does not run
// as another user, which cannot enter the directory.
func listen(dir string, another bool) (*socket, error) { //nolint:revive // a fact, not a mode
	path := filepath.Join(dir, socketFile)
	if another || len(path) > maxSocketPath {
		apart, err := os.MkdirTemp("", "job-")
		if err != nil {
			return nil, err
		}
		if another {
			err = os.Chmod(apart, 0o711)
		}
		var s *socket
		if err == nil {
			s, err = listenAt(filepath.Join(apart, socketFile))
		}
		if err != nil {
			_ = os.Remove(apart)
		}
		return s, err
	}
	return listenAt(path)
}

// listenAt makes the socket at a path that the job knows already, or will.
func listenAt(path string) (*socket, error) {
	_ = os.Remove(path) // of a run before
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) { err = sys.PassCredentials(int(fd)) }); e != nil {
			err = e
		}
	}
	if err == nil {
		err = os.Chmod(path, 0o666) // for another user's job; each sender is checked
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return newSocket(path, conn), nil
}

func newSocket(path string, conn *net.UnixConn) *socket {
	return &socket{
		path: path, conn: conn, ready: make(chan struct{}), extended: make(chan time.Duration, 1),
		pings: make(chan struct{}, 1), told: make(chan struct{}, 1),
	}
}

// close leaves the name: the next program that keeps the job takes it.
func (s *socket) close() { _ = s.conn.Close() }

// hear receives what the job sends.
func (k *keeper) hear() {
	stop := context.AfterFunc(k.ctx, func() { _ = k.socket.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf, control := make([]byte, 64<<10), make([]byte, 4096)
	for k.ctx.Err() == nil {
		n, nc, _, _, err := k.socket.conn.ReadMsgUnix(buf, control)
		if err != nil {
			if k.ctx.Err() != nil || sleep(k.ctx, logPause) != nil {
				return
			}
			continue
		}
		pid, fds := sys.SenderOf(control[:nc])
		if k.sentBy(pid) {
			k.take(string(buf[:n]))
		}
		for _, fd := range fds { // BARRIER=1: the sender waits until it is closed
			sys.Close(fd)
		}
	}
}

// sentBy reports whether pid belongs to the job's tree.
func (k *keeper) sentBy(pid int) bool {
	if pid <= 0 {
		return false
	}
	if pid == k.trace.PID && proctree.Living(pid, k.trace.Start) {
		return true
	}
	var tree proctree.Tree
	if recall(&tree, k.trace, time.Second) != nil {
		return false
	}
	defer tree.Forget()
	return tree.Owns(pid)
}

// take does what a message says. It reports READY=1 to waiters after it has taken the rest of the
// message.
func (k *keeper) take(message string) {
	ready := false
	for line := range strings.SplitSeq(message, "\n") {
		name, value, _ := strings.Cut(line, "=")
		switch name {
		case "READY":
			ready = ready || value == "1"
		case "STATUS":
			value = value[:min(len(value), maxText)]
			k.socket.text.Store(&value)
			k.socket.tell()
		case "EXTEND_TIMEOUT_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil && us > 0 && us < int64(maxExtension/time.Microsecond) {
				select {
				case <-k.socket.extended:
				default:
				}
				k.socket.extended <- time.Duration(us) * time.Microsecond
			}
		case "WATCHDOG":
			if value == "1" {
				select {
				case k.socket.pings <- struct{}{}:
				default:
				}
			}
		}
	}
	if ready {
		k.socket.once.Do(func() { close(k.socket.ready) })
		k.socket.tell()
	}
}

func (s *socket) tell() {
	select {
	case s.told <- struct{}{}:
	default:
	}
}

// maxText is how much of a STATUS= is kept, and textPause how often it is written down: written more
// often, it would make the job wait for the disk.
const (
	maxText   = 1 << 10
	textPause = 200 * time.Millisecond
)

// writeNews records the last STATUS=, and that the job is ready, even if no start waits for that.
func (k *keeper) writeNews() {
	for {
		select {
		case <-k.socket.told:
			k.record(k.setNews)
		case <-k.ctx.Done():
			return
		}
		if sleep(k.ctx, textPause) != nil {
			return
		}
	}
}

func (k *keeper) setNews(r *record) {
	if k.socket == nil {
		return
	}
	if text := k.socket.text.Load(); text != nil {
		r.Text = *text
	}
	select {
	case <-k.socket.ready:
		r.Ready = true
	default:
	}
}

// maxExtension is the longest EXTEND_TIMEOUT_USEC that is believed.
const maxExtension = 24 * time.Hour

// guard ends a job that does not send WATCHDOG=1 in time. The time begins when Ready is no longer
// waited for.
func (k *keeper) guard() {
	select {
	case <-k.ready:
	case <-k.ctx.Done():
		return
	}
	timer := time.NewTimer(k.set.Watchdog)
	defer timer.Stop()
	for {
		select {
		case <-k.socket.pings:
			timer.Reset(k.set.Watchdog)
		case <-k.ctx.Done():
			return
		case <-timer.C:
			k.endForSure(ByWatchdog, nil)
			return
		}
	}
}
