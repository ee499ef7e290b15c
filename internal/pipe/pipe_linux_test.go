package pipe

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// patient makes calls wait for their hands, however busy the machine is.
func patient(t *testing.T) {
	before := patience
	patience = time.Hour
	t.Cleanup(func() { patience = before })
}

// blocks reports whether a descriptor's reads and writes block.
func blocks(t *testing.T, fd uintptr) bool {
	t.Helper()
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	require.NoError(t, err)
	return flags&unix.O_NONBLOCK == 0
}

func control(t *testing.T, f *os.File, what func(fd uintptr)) {
	t.Helper()
	conn, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(what))
}

func TestZeroEndIsClosed(t *testing.T) {
	var e End
	assert.False(t, e.Open())
	e.Close()
	e.Close()
	require.NoError(t, syscall.Fstat(0, new(syscall.Stat_t)), "descriptor 0 is nobody's to close")
}

func TestOutput(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	require.True(t, e.Open())
	assert.False(t, blocks(t, uintptr(e.FD())))
	control(t, child, func(fd uintptr) { assert.True(t, blocks(t, fd), "the child's programs know nothing of EAGAIN") })

	buf := make([]byte, 10)
	_, err = e.Read(buf)
	assert.ErrorIs(t, err, syscall.EAGAIN)
	unread, err := e.Unread()
	assert.NoError(t, err)
	assert.Zero(t, unread)
	assert.False(t, e.Hangup())

	_, err = child.WriteString("abc")
	require.NoError(t, err)
	unread, err = e.Unread()
	assert.NoError(t, err)
	assert.Equal(t, 3, unread)
	require.NoError(t, child.Close())
	assert.True(t, e.Hangup(), "also with something left")
	n, err := e.Read(buf)
	assert.NoError(t, err)
	assert.Equal(t, "abc", string(buf[:n]))
	n, err = e.Read(buf)
	assert.NoError(t, err)
	assert.Zero(t, n, "the end")
	e.Close()
	e.Close()
	assert.False(t, e.Open())
}

func TestInput(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	var e End
	child, err := e.Input()
	require.NoError(t, err)
	assert.False(t, blocks(t, uintptr(e.FD())))
	control(t, child, func(fd uintptr) { assert.True(t, blocks(t, fd)) })

	n, err := e.Write([]byte("abc"))
	assert.NoError(t, err)
	assert.Equal(t, 3, n)
	for err == nil {
		_, err = e.Write(make([]byte, 4096))
	}
	assert.ErrorIs(t, err, syscall.EAGAIN)
	buf := make([]byte, 3)
	_, err = child.Read(buf)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(buf))
	assert.False(t, e.Hangup())
	require.NoError(t, child.Close())
	assert.True(t, e.Hangup())
	_, err = e.Write([]byte("x"))
	assert.ErrorIs(t, err, syscall.EPIPE)
	e.Close()
}

// What the child is to inherit, os/exec sees to; nothing else may.
func TestEndsAreCloseOnExec(t *testing.T) {
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	defer e.Close()
	defer child.Close()
	check := func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.NotZero(t, flags&unix.FD_CLOEXEC)
	}
	check(uintptr(e.FD()))
	control(t, child, check)
}

func TestInodeIsTheNameInProc(t *testing.T) {
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	want := "pipe:[" + strconv.FormatUint(e.Inode(), 10) + "]"
	ours, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(e.FD()))
	require.NoError(t, err)
	assert.Equal(t, want, ours)
	control(t, child, func(fd uintptr) {
		childs, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(fd)))
		require.NoError(t, err)
		assert.Equal(t, want, childs)
	})
	e.Close()
	child.Close()
	assert.Zero(t, (&End{fd: 1 << 20}).Inode())
}
