package sys

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestStopSignal(t *testing.T) {
	cmd := testproc.Command("hang")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	testproc.Ready(t, out)
	pid := cmd.Process.Pid
	assert.Zero(t, StopSignal(pid), "it runs")
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	// The first thread is stopped before the process as a whole is.
	ctx := testproc.Deadline(t)
	for StopSignal(pid) == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		assert.Equal(t, syscall.SIGSTOP, StopSignal(pid), "asking leaves it as it was")
	}
	assert.Zero(t, StopSignal(os.Getppid()), "not a child")
}

func TestBorrowFD(t *testing.T) {
	r, w := openPipe(t)
	defer Close(r)
	cmd := testproc.Command("hang")
	ready, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(w), "w")}
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	testproc.Ready(t, ready)
	require.NoError(t, cmd.ExtraFiles[0].Close())
	_, err = unix.Write(w, []byte("x"))
	require.Error(t, err, "ours is closed")

	borrowed := -1
	err = BorrowFD(cmd.Process.Pid, 3, func(fd int) {
		borrowed = fd
		size, err := PipeSize(fd)
		assert.NoError(t, err)
		assert.Positive(t, size)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		assert.NoError(t, err)
		assert.NotZero(t, flags&unix.FD_CLOEXEC)
		n, err := Write(fd, []byte("abc"))
		assert.NoError(t, err)
		assert.Equal(t, 3, n)
	})
	if !Enabled(Pidfd) {
		assert.ErrorIs(t, err, syscall.ENOSYS)
		return
	}
	require.NoError(t, err)
	_, err = PipeSize(borrowed)
	assert.ErrorIs(t, err, syscall.EBADF, "closed again")
	n, err := Unread(r)
	assert.NoError(t, err)
	assert.Equal(t, 3, n)
	assert.ErrorIs(t, BorrowFD(cmd.Process.Pid, 1<<20, func(int) { t.Error("called") }), syscall.EBADF)
	assert.ErrorIs(t, BorrowFD(1<<30, 0, func(int) { t.Error("called") }), syscall.ESRCH)
}

func TestReadMemory(t *testing.T) {
	secret := []byte("some bytes of ours")
	p := make([]byte, len(secret))
	n, err := ReadMemory(os.Getpid(), uint64(uintptr(unsafe.Pointer(&secret[0]))), p)
	require.NoError(t, err)
	assert.Equal(t, len(secret), n)
	assert.Equal(t, secret, p)
	runtime.KeepAlive(secret)
	for _, addr := range []uint64{0, 1, 1<<63 + 1} {
		_, err = ReadMemory(os.Getpid(), addr, p)
		assert.ErrorIs(t, err, syscall.EFAULT)
	}
	_, err = ReadMemory(os.Getpid(), 0, nil)
	assert.Error(t, err)
	if testproc.Unprivileged() {
		_, err = ReadMemory(1, 1<<20, p)
		assert.True(t, NotPermitted(err), err)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; {
	}
	after, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	assert.Greater(t, after, before)
	_, err = CPUTime(1)
	assert.NoError(t, err, "no permission needed")
	_, err = CPUTime(1 << 28)
	assert.Error(t, err)
	now, err := ClockNow(unix.CLOCK_REALTIME)
	require.NoError(t, err)
	assert.InDelta(t, time.Now().UnixNano(), now.Nanoseconds(), float64(time.Minute))
}

// rawFD lends the descriptor of a connection.
func rawFD(t *testing.T, conn syscall.Conn, f func(fd int)) {
	t.Helper()
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { f(int(fd)) }))
}

func TestInspectSocket(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, "localhost:0")
		if err != nil {
			t.Logf("%s: %v", network, err)
			continue
		}
		defer l.Close()
		client, err := net.Dial(network, l.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		server, err := l.Accept()
		require.NoError(t, err)
		defer server.Close()
		rawFD(t, l.(*net.TCPListener), func(fd int) {
			info, err := InspectSocket(fd)
			require.NoError(t, err)
			assert.True(t, info.Listening)
			assert.False(t, info.Connected)
			assert.Equal(t, l.Addr().String(), info.Local.String())
		})
		_, err = server.Write([]byte("abc"))
		require.NoError(t, err)
		_, err = client.Read(make([]byte, 1))
		require.NoError(t, err)
		rawFD(t, client.(*net.TCPConn), func(fd int) {
			info, err := InspectSocket(fd)
			require.NoError(t, err)
			assert.Equal(t, SocketTCP, info.Protocol)
			assert.Equal(t, client.LocalAddr().String(), info.Local.String())
			assert.Equal(t, client.RemoteAddr().String(), info.Remote.String())
			assert.Equal(t, 2, info.Unread)
			assert.Zero(t, info.Unsent)
			assert.EqualValues(t, 1, info.State)
			assert.GreaterOrEqual(t, info.SinceReceived, time.Duration(0))
		})
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(pair[0])
	defer Close(pair[1])
	Write(pair[1], []byte("abcd"))
	info, err := InspectSocket(pair[0])
	require.NoError(t, err)
	assert.Equal(t, FamilyUnix, info.Family)
	assert.True(t, info.Connected)
	assert.Equal(t, os.Getpid(), info.PeerPID)
	assert.Equal(t, 4, info.Unread)

	r, w := openPipe(t)
	defer Close(r)
	defer Close(w)
	_, err = InspectSocket(r)
	assert.ErrorIs(t, err, syscall.ENOTSOCK)
}
