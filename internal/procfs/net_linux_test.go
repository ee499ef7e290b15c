package procfs

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fdOf returns the descriptor of a connection or listener, and its inode.
func fdOf(t *testing.T, c any) (fd int, inode uint64) {
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(n uintptr) { fd = int(n) }))
	return fd, inodeOf(t, fd)
}

// rowOf returns the one row of an inode.
func rowOf(t *testing.T, table SocketTable, inode uint64) Socket {
	t.Helper()
	rows, err := ReadSockets(Self, table, func(n uint64) bool { return n == inode })
	require.NoError(t, err)
	require.Len(t, rows, 1)
	return rows[0]
}

func addrPort(t *testing.T, a net.Addr) netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.String())
	require.NoError(t, err)
	return ap
}

func TestReadSocketsTCP(t *testing.T) {
	for address, table := range map[string]SocketTable{"127.0.0.1:0": TableTCP, "[::1]:0": TableTCP6} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no %s here: %v", table, err)
			continue
		}
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer client.Close()
		_, li := fdOf(t, l)
		eventually(t, func() bool { return rowOf(t, table, li).RxQueue == 1 }, "one connection waits")
		row := rowOf(t, table, li)
		assert.Equal(t, "LISTEN", row.State.String())
		assert.Equal(t, addrPort(t, l.Addr()), row.Local)
		assert.Zero(t, row.Remote.Port())
		assert.Equal(t, uint32(os.Getuid()), row.UID)

		server, err := l.Accept()
		require.NoError(t, err)
		defer server.Close()
		_, err = client.Write(make([]byte, 312))
		require.NoError(t, err)
		_, si := fdOf(t, server)
		_, ci := fdOf(t, client)
		eventually(t, func() bool { return rowOf(t, table, si).RxQueue == 312 }, "312 bytes are unread")
		row = rowOf(t, table, si)
		assert.Equal(t, "ESTABLISHED", row.State.String())
		assert.Equal(t, addrPort(t, client.LocalAddr()), row.Remote)
		assert.Equal(t, addrPort(t, client.RemoteAddr()), row.Local)
		assert.Equal(t, row.Local, rowOf(t, table, ci).Remote)
	}
}

func TestReadSocketsUDP(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer c.Close()
	_, inode := fdOf(t, c)
	row := rowOf(t, TableUDP, inode)
	assert.Equal(t, "CLOSE", row.State.String())
	assert.Equal(t, addrPort(t, c.LocalAddr()), row.Local)
	d, err := net.Dial("udp4", c.LocalAddr().String())
	require.NoError(t, err)
	defer d.Close()
	_, inode = fdOf(t, d)
	row = rowOf(t, TableUDP, inode)
	assert.Equal(t, "ESTABLISHED", row.State.String())
	assert.Equal(t, addrPort(t, c.LocalAddr()), row.Remote)
}

func TestReadSocketsOfNobody(t *testing.T) {
	_, err := ReadSockets(0, TableTCP, nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadUnixSockets(0, nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadSockets(Self, TableTCP, nil)
	require.NoError(t, err)
	none, err := ReadSockets(Self, TableTCP, func(uint64) bool { return false })
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestReadUnixSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	_, inode := fdOf(t, l)
	of := func(inode uint64) []UnixSocket {
		rows, err := ReadUnixSockets(Self, func(n uint64) bool { return n == inode })
		require.NoError(t, err)
		return rows
	}
	assert.Equal(t, []UnixSocket{{Inode: inode, Type: 1, State: 1, Listening: true, Path: path}}, of(inode))

	// A name with newlines in it, and then one that forges a row about the listener above.
	odd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: fmt.Sprintf("@odd%d\n\nb", os.Getpid())})
	require.NoError(t, err)
	defer odd.Close()
	_, oddInode := fdOf(t, odd)
	assert.Equal(t, []UnixSocket{{Inode: oddInode, Type: 2, State: 1, Path: odd.LocalAddr().String()}}, of(oddInode))

	forged, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram",
		Name: fmt.Sprintf("@\n0: 00000002 0 0 0001 03 %d /etc/passwd", inode)})
	require.NoError(t, err)
	defer forged.Close()
	rows := of(inode)
	require.Len(t, rows, 2, "twice: one is forged, and the file cannot say which")
	paths := []string{rows[0].Path, rows[1].Path}
	assert.ElementsMatch(t, []string{path, "/etc/passwd"}, paths)
}

func TestReadLocks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		h, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		return h
	}
	holder := open()
	defer holder.Close()
	fd := int(holder.Fd())
	require.NoError(t, syscall.Flock(fd, syscall.LOCK_EX))
	require.NoError(t, syscall.FcntlFlock(uintptr(fd), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_RDLCK, Start: 5, Len: 10}))
	const ofdSetLock = 37 // F_OFD_SETLK
	require.NoError(t, syscall.FcntlFlock(uintptr(fd), ofdSetLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: 100}))

	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(fd, &st))
	ours := func() (held, blocked []Lock) {
		locks, err := ReadLocks()
		require.NoError(t, err)
		for _, l := range locks {
			switch {
			case l.Inode != st.Ino:
			case l.Blocked:
				blocked = append(blocked, l)
			default:
				held = append(held, l)
			}
		}
		return held, blocked
	}
	held, blocked := ours()
	require.Empty(t, blocked)
	require.Len(t, held, 3)
	byKind := map[LockKind]Lock{}
	for _, l := range held {
		byKind[l.Kind] = l
	}
	pid := os.Getpid()
	want := byKind[LockFlock]
	assert.Equal(t, []any{LockWrite, pid, int64(0), int64(math.MaxInt64)}, []any{want.Mode, want.PID, want.Start, want.End})
	want = byKind[LockPOSIX]
	assert.Equal(t, []any{LockRead, pid, int64(5), int64(14)}, []any{want.Mode, want.PID, want.Start, want.End})
	want = byKind[LockOFD]
	assert.Equal(t, []any{LockWrite, -1, int64(100), int64(math.MaxInt64)}, []any{want.Mode, want.PID, want.Start, want.End})

	info, err := ReadFDInfo(Self, fd)
	require.NoError(t, err)
	assert.Len(t, info.Locks, 3)
	for _, l := range info.Locks {
		assert.Equal(t, [2]uint32{want.Major, want.Minor}, [2]uint32{l.Major, l.Minor})
		assert.Equal(t, byKind[l.Kind].Start, l.Start)
	}

	// A second opening of the file waits for the flock.
	waiter := open()
	defer waiter.Close()
	wfd := int(waiter.Fd())
	done := make(chan error)
	go func() { done <- syscall.Flock(wfd, syscall.LOCK_SH) }()
	eventually(t, func() bool {
		held, blocked = ours()
		return len(blocked) == 1
	}, "a row that is blocked")
	assert.Equal(t, []any{LockFlock, LockRead, pid}, []any{blocked[0].Kind, blocked[0].Mode, blocked[0].PID})
	for _, l := range held {
		assert.Equal(t, l.Kind == LockFlock, l.ID == blocked[0].ID, "it waits for the flock")
	}
	require.NoError(t, syscall.Flock(fd, syscall.LOCK_UN))
	require.NoError(t, <-done)
}

func TestReadFDInfo(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	for _, h := range []*os.File{r, w} {
		info, err := ReadFDInfo(Self, int(h.Fd()))
		require.NoError(t, err)
		assert.Equal(t, h == r, info.CanRead())
		assert.Equal(t, h == w, info.CanWrite())
		assert.True(t, info.CloseOnExec())
		if info.Inode != 0 {
			assert.Equal(t, inodeOf(t, int(h.Fd())), info.Inode)
		}
	}

	ep, err := syscall.EpollCreate1(0)
	require.NoError(t, err)
	defer syscall.Close(ep)
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: 0x0badcafe, Pad: -1}
	require.NoError(t, syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, int(r.Fd()), &event))
	info, err := ReadFDInfo(Self, ep)
	require.NoError(t, err)
	assert.False(t, info.CloseOnExec())
	require.Len(t, info.Epoll, 1)
	assert.Equal(t, int(r.Fd()), info.Epoll[0].FD)
	assert.NotZero(t, info.Epoll[0].Events&syscall.EPOLLIN)
	assert.NotZero(t, info.Epoll[0].Data)
	assert.Equal(t, inodeOf(t, int(r.Fd())), info.Epoll[0].Inode)

	h, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer h.Close()
	_, err = h.WriteString("12345")
	require.NoError(t, err)
	info, err = ReadFDInfo(Self, int(h.Fd()))
	require.NoError(t, err)
	assert.Equal(t, int64(5), info.Pos)
	assert.True(t, info.CanRead() && info.CanWrite())
	assert.False(t, info.Pidfd)

	_, err = ReadFDInfo(Self, 1<<30)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadFDInfo(Self, -1)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadFDInfoOfPidfd(t *testing.T) {
	const pidfdOpen = 434 // the same on every architecture since Linux 5.3
	p := startSubject(t, "wait", "")
	r, _, errno := syscall.Syscall(pidfdOpen, uintptr(p.pid), 0, 0)
	if errno != 0 {
		t.Skip("no pidfd_open: ", errno)
	}
	fd := int(r)
	defer syscall.Close(fd)
	assert.Equal(t, FDTarget{Kind: FDAnon, Name: "pidfd"}, target(t, fd))
	info, err := ReadFDInfo(Self, fd)
	require.NoError(t, err)
	assert.True(t, info.Pidfd)
	assert.Equal(t, p.pid, info.PID)
	require.NoError(t, p.Process.Kill())
	waitExited(t, p.pid)
	info, err = ReadFDInfo(Self, fd)
	require.NoError(t, err)
	assert.Equal(t, p.pid, info.PID, "a zombie keeps its number")
	_ = p.Wait()
	info, err = ReadFDInfo(Self, fd)
	require.NoError(t, err)
	assert.True(t, info.Pidfd)
	assert.Equal(t, -1, info.PID, "reaped")
}
