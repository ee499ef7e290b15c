package fdtable

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() {
	testproc.Roles["audit-unprivileged"] = auditUnprivileged
	answerBound = time.Minute // on a busy machine; for the roles too
}

// open returns the descriptor of a file, and closes it when the test ends.
func open(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// asFile returns a file of its own for what a descriptor is open on.
func asFile(t *testing.T, fd int) *os.File {
	t.Helper()
	n, err := sys.Dup(fd)
	require.NoError(t, err)
	f := os.NewFile(uintptr(n), "")
	t.Cleanup(func() { f.Close() })
	return f
}

// pipe returns the two ends of a pipe.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// deletedFile opens a file that has no name any more.
func deletedFile(t *testing.T) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deleted")
	fd := open(t, path, unix.O_CREAT|unix.O_RDWR)
	require.NoError(t, os.Remove(path))
	return fd
}

func memfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.MemfdCreate("scratch", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	require.NoError(t, os.Mkdir(gone, 0o700))
	removed := open(t, gone, unix.O_RDONLY|unix.O_DIRECTORY)
	require.NoError(t, os.Remove(gone))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(event)
	var p [2]int
	require.NoError(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	for _, test := range []struct {
		fd   int
		want FD
	}{
		{open(t, filepath.Join(dir, "file"), unix.O_CREAT|unix.O_WRONLY),
			FD{Kind: KindFile, Target: filepath.Join(dir, "file"), Write: true}},
		{open(t, dir, unix.O_PATH), FD{Kind: KindDirectory, Target: dir}},
		{removed, FD{Kind: KindDirectory, Target: gone, Read: true}},
		{open(t, "/dev/null", unix.O_RDWR), FD{Kind: KindDevice, Target: "/dev/null", Read: true, Write: true}},
		{open(t, "/proc/self/ns/net", unix.O_RDONLY), FD{Kind: KindNamespace, Read: true}},
		{open(t, fifo, unix.O_RDWR|unix.O_NONBLOCK),
			FD{Kind: KindFIFO, Target: fifo, Read: true, Write: true, Nonblock: true}},
		{deletedFile(t), FD{Kind: KindFile, Read: true, Write: true, Deleted: true}},
		{memfd(t), FD{Kind: KindMemfd, Target: "scratch", Read: true, Write: true}},
		{event, FD{Kind: "eventfd", Read: true, Write: true, Nonblock: true}},
		{p[0], FD{Kind: KindPipe, Read: true}},
		{p[1], FD{Kind: KindPipe, Write: true}},
	} {
		d, err := describe(test.fd)
		require.NoError(t, err)
		if test.want.Target != "" {
			assert.Equal(t, test.want.Target, d.Target)
		}
		assert.Equal(t, d.Kind == KindPipe || d.Kind == KindFIFO, d.Pipe != nil, d.Kind)
		test.want.Num, test.want.CloseOnExec, test.want.Target, test.want.Pipe = test.fd, true, d.Target, d.Pipe
		assert.Equal(t, test.want, d)
	}
	_, err = describe(1 << 20)
	assert.ErrorIs(t, err, syscall.EBADF)
}

func TestDescribeTerminal(t *testing.T) {
	t.Parallel()
	d, err := describe(int(testproc.NewPTY(t).Slave().Fd()))
	require.NoError(t, err)
	assert.Equal(t, KindTerminal, d.Kind)
}

func TestDescribePidfd(t *testing.T) {
	t.Parallel()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Skip("no pidfd: ", err)
	}
	defer unix.Close(fd)
	d, err := describe(fd)
	require.NoError(t, err)
	assert.Equal(t, KindPidfd, d.Kind)
	assert.Equal(t, fmt.Sprint("process ", os.Getpid()), d.Target)
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for link, want := range map[string][2]string{
		"/a b (deleted)":     {KindFile, "/a b"},
		"pipe:[7]":           {KindPipe, "pipe:[7]"},
		"socket:[7]":         {KindSocket, "socket:[7]"},
		"/memfd:x (deleted)": {KindMemfd, "x"},
		"anon_inode:[pidfd]": {KindPidfd, ""},
		"pidfd:[7]":          {KindPidfd, ""}, // since Linux 6.9
		"mnt:[7]":            {KindNamespace, "mnt:[7]"},
		"":                   {KindUnknown, ""},
	} {
		kind, target := kindOf(link)
		assert.Equal(t, want, [2]string{kind, target}, link)
	}
}

func TestPipeOf(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	_, err := w.WriteString("abc")
	require.NoError(t, err)
	size, err := sys.PipeSize(int(r.Fd()))
	require.NoError(t, err)
	assert.Equal(t, &Pipe{Size: size, Unread: 3, Unseen: -1}, pipeOf(int(r.Fd())))
	assert.Nil(t, pipeOf(open(t, "/dev/null", unix.O_RDONLY)))
}

// connected returns a descriptor of one end of a connection, and what is at the ends.
func connected(t *testing.T, network, address string) (listener, client int, local, remote string) {
	t.Helper()
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	fd := func(c any) (n int) {
		raw, err := c.(syscall.Conn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { n = int(fd) }))
		return n
	}
	return fd(l), fd(c), c.LocalAddr().String(), l.Addr().String()
}

func TestSocketOf(t *testing.T) {
	t.Parallel()
	l, c, local, remote := connected(t, "tcp", "127.0.0.1:0")
	assert.Equal(t, &Socket{Network: "tcp", Local: local, Remote: remote, State: "ESTABLISHED"}, socketOf(c))
	listening := socketOf(l)
	require.NotNil(t, listening)
	assert.Equal(t, "LISTEN", listening.State)
	assert.Equal(t, remote, listening.Local)

	l, c, _, remote = connected(t, "unix", filepath.Join(t.TempDir(), "s"))
	assert.Equal(t, &Socket{Network: "unix", Local: remote, State: "LISTEN"}, socketOf(l))
	assert.Equal(t, &Socket{Network: "unix", Remote: remote, State: "CONNECTED"}, socketOf(c))

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	_, err = unix.Write(pair[1], []byte("unread"))
	require.NoError(t, err)
	assert.Equal(t, &Socket{Network: "unix", Unread: 6}, socketOf(pair[0]), "nothing is known of its peer")
	assert.Nil(t, socketOf(open(t, "/dev/null", unix.O_RDONLY)))
}

// TestWithin leaves behind what does not answer.
func TestWithin(t *testing.T) {
	found := within(func(fd int) *int { return &fd }, 7)
	require.NotNil(t, found)
	assert.Equal(t, 7, *found)
	defer func(bound time.Duration) { answerBound = bound }(answerBound)
	answerBound = time.Millisecond
	answer, left := make(chan struct{}), make(chan struct{})
	assert.Nil(t, within(func(fd int) *int { defer close(left); <-answer; return &fd }, 7))
	close(answer)
	<-left
}

// audited returns what Audit says of a descriptor.
func audited(t *testing.T, fd int) FD {
	t.Helper()
	list, err := Audit()
	require.NoError(t, err)
	assert.True(t, slices.IsSortedFunc(list, func(a, b FD) int { return a.Num - b.Num }))
	i := slices.IndexFunc(list, func(d FD) bool { return d.Num == fd })
	require.GreaterOrEqual(t, i, 0)
	return list[i]
}

// TestPeers has a pipe in this process, twice at one end, and in another, under the number that it has in this.
func TestPeers(t *testing.T) {
	r, w := pipe(t)
	again, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(again)
	peers := func(fd int) [][]int {
		var list [][]int
		pipe := audited(t, fd).Pipe
		require.NotNil(t, pipe)
		if !testproc.Unprivileged() {
			assert.Zero(t, pipe.Unseen)
		}
		for _, p := range pipe.Peers {
			list = append(list, append([]int{p.PID}, p.FDs...))
		}
		return list
	}
	readers := []int{int(r.Fd()), again}
	slices.Sort(readers)
	own := append([]int{os.Getpid()}, readers...)
	assert.Equal(t, [][]int{{os.Getpid(), int(w.Fd())}}, peers(int(r.Fd())), "not the other reader")
	assert.Equal(t, [][]int{own}, peers(int(w.Fd())))

	cmd := testproc.Command("hang")
	cmd.ExtraFiles = make([]*os.File, w.Fd()-FirstFD+1)
	cmd.ExtraFiles[w.Fd()-FirstFD] = r
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	testproc.Ready(t, out)
	child := []int{cmd.Process.Pid, int(w.Fd())}
	assert.ElementsMatch(t, [][]int{own, child}, peers(int(w.Fd())))
	assert.Equal(t, [][]int{{os.Getpid(), int(w.Fd())}}, peers(int(r.Fd())), "the other process only reads")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	assert.Equal(t, [][]int{own}, peers(int(w.Fd())))

	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	assert.Empty(t, peers(open(t, fifo, unix.O_RDWR)), "it is not at its own other end")
}

func TestHoldsReader(t *testing.T) {
	r, w := pipe(t)
	target := audited(t, int(w.Fd())).Target
	assert.True(t, holdsReader(target))
	require.NoError(t, r.Close())
	assert.False(t, holdsReader(target))
}

// auditUnprivileged prints what an ordinary user sees of a pipe, whose reader is root's.
func auditUnprivileged([]string) int {
	if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		return testproc.Fail(err)
	}
	list, err := Audit()
	i := slices.IndexFunc(list, func(d FD) bool { return d.Num == FirstFD })
	if err != nil {
		return testproc.Fail(err)
	}
	if i < 0 || list[i].Pipe == nil {
		return testproc.Fail(fmt.Errorf("no pipe in %v", list))
	}
	if err := json.NewEncoder(os.Stdout).Encode(list[i].Pipe); err != nil {
		return testproc.Fail(err)
	}
	return 0
}

func TestUnseenPeers(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root, to give it up")
	}
	_, w := pipe(t)
	cmd := testproc.RoleCommand(t, "audit-unprivileged")
	cmd.ExtraFiles = []*os.File{w}
	text, err := cmd.Output()
	require.NoError(t, err)
	var seen Pipe
	require.NoError(t, json.Unmarshal(text, &seen), "%s", text)
	assert.Empty(t, seen.Peers)
	assert.Positive(t, seen.Unseen)
}
