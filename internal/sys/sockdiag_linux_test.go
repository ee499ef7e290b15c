package sys

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	f, err := FileOf(fd)
	require.NoError(t, err)
	return f.Inode
}

func TestFindUnixSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	a, b := inodeOf(t, pair[0]), inodeOf(t, pair[1])
	_, err = unix.Write(pair[1], []byte("abc"))
	require.NoError(t, err)
	s, err := FindUnixSocket(a)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Skip("no sock_diag for Unix sockets here")
	}
	require.NoError(t, err)
	assert.Equal(t, UnixSocket{Peer: b, Unread: 3}, s)

	for _, path := range []string{t.TempDir() + "/s", "@" + t.Name()} {
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		raw, err := l.(*net.UnixListener).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			s, err := FindUnixSocket(inodeOf(t, int(fd)))
			require.NoError(t, err)
			assert.True(t, s.Listening)
			assert.Equal(t, path, s.Path)
		}))
		l.Close()
	}
	r, w := openPipe(t)
	defer Close(r)
	defer Close(w)
	for _, inode := range []uint64{inodeOf(t, r), 1 << 40, 0} {
		_, err = FindUnixSocket(inode)
		assert.Error(t, err, "no Unix socket")
	}
}

func TestTCPSilence(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue // no IPv6
		}
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		local, remote := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
		raw, err := c.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		var inode uint64
		require.NoError(t, raw.Control(func(fd uintptr) { inode = inodeOf(t, int(fd)) }))
		silence, err := TCPSilence(inode, local, remote)
		require.NoError(t, err, address)
		assert.GreaterOrEqual(t, silence, time.Duration(0))
		_, err = TCPSilence(inode+1, local, remote)
		assert.ErrorIs(t, err, unix.ENOENT, "another one's")
		c.Close()
		l.Close()
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte{8, 0, 2, 0, 1, 2, 3, 4, 5, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		eachAttribute(b, func(_ uint16, value []byte) {
			if len(value) > len(b) {
				t.Error(len(value))
			}
		})
	})
}
