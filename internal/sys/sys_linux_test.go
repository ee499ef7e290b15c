package sys

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// restore puts the features back as they were.
func restore(t *testing.T) {
	before := disabled.Load()
	t.Cleanup(func() { disabled.Store(before) })
}

func TestDisable(t *testing.T) {
	restore(t)
	disabled.Store(0)
	assert.Empty(t, Disable())
	for _, f := range []Feature{Pidfd, Epoll, Loadavg, CloseRange, Cached} {
		assert.True(t, Enabled(f))
	}
	assert.Empty(t, Disable("pidfd", " loadavg "))
	assert.False(t, Enabled(Pidfd))
	assert.True(t, Enabled(Epoll))
	assert.False(t, Enabled(Loadavg))

	_, err := PidfdOpen(os.Getpid())
	assert.ErrorIs(t, err, syscall.ENOSYS)
	assert.ErrorIs(t, PidfdSignalGroup(-1, 0), syscall.ENOSYS)
	_, err = ReadLoadavg(make([]byte, 128))
	assert.ErrorIs(t, err, syscall.ENOSYS)
	assert.Empty(t, Disable("epoll"))
	_, err = EpollCreate()
	assert.ErrorIs(t, err, syscall.ENOSYS)
}

func TestDisableUnknown(t *testing.T) {
	restore(t)
	for _, name := range []string{"no-such-path", "Pidfd", "pidfd,epoll", "pid fd"} {
		disabled.Store(0)
		assert.Equal(t, name, Disable(name))
		assert.Equal(t, name, Disable("loadavg", name, "also unknown"), "the first")
	}
}

func TestFeatureNames(t *testing.T) {
	seen := make(map[Feature]string)
	for name, f := range names {
		assert.Equal(t, strings.TrimSpace(name), name)
		assert.Empty(t, seen[f], "two names for one feature")
		assert.Equal(t, Feature(0), f&(f-1), "one bit")
		seen[f] = name
	}
	assert.Len(t, seen, 8)
}

func TestReadLoadavg(t *testing.T) {
	skipDisabled(t, "loadavg")
	var buf [128]byte
	for range 2 { // from the beginning each time
		n, err := ReadLoadavg(buf[:])
		require.NoError(t, err)
		fields := strings.Fields(string(buf[:n]))
		require.Len(t, fields, 5)
		last, err := strconv.Atoi(fields[4])
		require.NoError(t, err)
		assert.Positive(t, last)
	}
}

func TestDevNull(t *testing.T) {
	a, err := DevNull()
	require.NoError(t, err)
	b, err := DevNull()
	require.NoError(t, err)
	assert.Same(t, a, b)
	n, _ := a.Read(make([]byte, 1))
	assert.Zero(t, n)
}

// What a child must not inherit.
func TestDescriptorsAreCloseOnExec(t *testing.T) {
	r, w, err := Pipe()
	require.NoError(t, err)
	defer Close(r)
	defer Close(w)
	dup, err := Dup(r)
	require.NoError(t, err)
	defer Close(dup)
	assert.GreaterOrEqual(t, dup, 3)
	fds := map[string]int{"pipe r": r, "pipe w": w, "dup": dup}
	if Enabled(Pidfd) {
		if fds["pidfd"], err = PidfdOpen(os.Getpid()); assert.NoError(t, err) {
			defer Close(fds["pidfd"])
		}
	}
	if Enabled(Epoll) {
		if fds["epoll"], err = EpollCreate(); assert.NoError(t, err) {
			defer Close(fds["epoll"])
		}
	}
	if Enabled(Loadavg) {
		fds["loadavg"] = openLoadavg()
	}
	for name, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err, name)
		assert.NotZero(t, flags&unix.FD_CLOEXEC, name)
	}
}

func TestNewSession(t *testing.T) {
	own, ok := NewSession(nil)
	require.True(t, ok)
	assert.Equal(t, &syscall.SysProcAttr{Setsid: true}, own)

	callers := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	own, ok = NewSession(callers)
	require.True(t, ok)
	assert.Equal(t, &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}, own)
	assert.Equal(t, &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}, callers, "is the caller's")

	for _, attr := range []*syscall.SysProcAttr{{Setpgid: true, Pgid: 1}, {Pgid: 7}, {Foreground: true}} {
		_, ok = NewSession(attr)
		assert.False(t, ok)
	}
}

func TestTracedAndChanges(t *testing.T) {
	assert.False(t, Traced(nil))
	assert.False(t, Traced(&syscall.SysProcAttr{}))
	assert.True(t, Traced(&syscall.SysProcAttr{Ptrace: true}))
	for _, c := range []struct {
		attr       *syscall.SysProcAttr
		root, user bool
	}{
		{nil, false, false},
		{&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, false, false},
		{&syscall.SysProcAttr{Chroot: "/"}, true, false},
		{&syscall.SysProcAttr{Credential: &syscall.Credential{}}, false, true},
		{&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID}, false, true},
	} {
		assert.Equal(t, c.root, ChangesRoot(c.attr))
		assert.Equal(t, c.user, ChangesUser(c.attr))
	}
}
