//go:build linux

package start_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["service"] = service
	testproc.Roles["audit"] = audit
}

func find(t *testing.T, l safeexec.FDs, fd int) safeexec.FD {
	t.Helper()
	i := slices.IndexFunc(l, func(d safeexec.FD) bool { return d.Num == fd })
	require.GreaterOrEqual(t, i, 0, "%d is not in\n%v", fd, l)
	return l[i]
}

// TestAuditFDs opens one of each kind.
func TestAuditFDs(t *testing.T) {
	opened := map[string]int{}
	add := func(name string, fd int, err error) {
		require.NoError(t, err, name)
		opened[name] = fd
		t.Cleanup(func() { unix.Close(fd) })
	}
	dir := t.TempDir()
	file, err := os.CreateTemp(dir, "named")
	require.NoError(t, err)
	defer file.Close()
	gone, err := os.CreateTemp(dir, "unlinked\nname")
	require.NoError(t, err)
	require.NoError(t, os.Remove(gone.Name()))
	defer gone.Close()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	add("directory", fd, err)
	fd, err = unix.Open(filepath.Join(dir, filepath.Base(file.Name())), unix.O_WRONLY|unix.O_APPEND, 0)
	add("file", fd, err)
	fd, err = unix.MemfdCreate("scratch", unix.MFD_CLOEXEC)
	add("memfd", fd, err)
	fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	add("eventpoll", fd, err)
	fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	add("eventfd", fd, err)
	fd, err = unix.PidfdOpen(os.Getpid(), 0)
	add("pidfd", fd, err)
	fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	add("device", fd, err)
	fd, err = unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	add("namespace", fd, err)
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	fd, err = unix.Open(filepath.Join(dir, "fifo"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	add("fifo", fd, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	add("socket", pair[0], err)
	add("its peer", pair[1], err)
	_, err = unix.Write(pair[1], []byte("unread"))
	require.NoError(t, err)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = w.WriteString("abc")
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()

	l, err := safeexec.AuditFDs()
	require.NoError(t, err)
	assert.True(t, slices.IsSortedFunc(l, func(a, b safeexec.FD) int { return a.Num - b.Num }))
	for name, fd := range opened {
		if name != "its peer" {
			d := find(t, l, fd)
			assert.Equal(t, safeexec.FDKind(name), d.Kind)
			assert.Equal(t, name != "file", d.CloseOnExec, name)
			assert.False(t, d.Born, name)
		}
	}
	assert.Empty(t, find(t, l, opened["fifo"]).Pipe.Peers, "it is not at its own other end")
	d := find(t, l, opened["file"])
	assert.Equal(t, file.Name(), d.Target)
	assert.True(t, d.Write && !d.Read && !d.Deleted)
	d = find(t, l, int(gone.Fd()))
	assert.True(t, d.Deleted && d.Read && d.Write)
	assert.Equal(t, gone.Name(), d.Target)
	assert.NotContains(t, d.String(), "\n", "a file name must not break a line")
	d = find(t, l, opened["directory"])
	assert.False(t, d.Read || d.Write)
	assert.True(t, find(t, l, opened["eventfd"]).Nonblock)
	assert.Equal(t, fmt.Sprint("process ", os.Getpid()), find(t, l, opened["pidfd"]).Target)
	assert.Equal(t, "scratch", find(t, l, opened["memfd"]).Target)

	s := find(t, l, opened["socket"]).Socket
	require.NotNil(t, s)
	assert.Equal(t, &safeexec.SocketInfo{Network: "unix", State: s.State, Unread: 6}, s)
	local, remote := conn.LocalAddr().String(), conn.RemoteAddr().String()
	assert.True(t, slices.ContainsFunc(l, func(d safeexec.FD) bool {
		return d.Socket != nil && *d.Socket == safeexec.SocketInfo{
			Network: "tcp", Local: local, Remote: remote, State: "ESTABLISHED"}
	}), "%v", l)
	assert.Contains(t, l.String(), "tcp "+remote+" LISTEN")

	in, out := find(t, l, int(r.Fd())), find(t, l, int(w.Fd()))
	require.NotNil(t, in.Pipe)
	require.NotNil(t, out.Pipe)
	assert.Equal(t, 3, in.Pipe.Unread)
	assert.Equal(t, 3, out.Pipe.Unread)
	assert.GreaterOrEqual(t, in.Pipe.Size, 4096)
	for _, pair := range [][2]safeexec.FD{{in, out}, {out, in}} {
		peers := pair[0].Pipe.Peers
		require.Len(t, peers, 1, "%v", l)
		assert.Equal(t, os.Getpid(), peers[0].PID)
		assert.Equal(t, []int{pair[1].Num}, peers[0].FDs)
	}

	table := l.String()
	assert.Equal(t, len(l)+1, strings.Count(table, "\n"))
	assert.True(t, strings.HasPrefix(table, "FD "), table)
	assert.Contains(t, table, "3 of "+fmt.Sprint(in.Pipe.Size)+" bytes, ")
}

// TestAuditNamesPeers has another process at the other end of a pipe.
//
// No other test runs meanwhile, as with TestStderrThatNobodyReads: what it starts has both ends until its exec.
func TestAuditNamesPeers(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := testproc.Command("hang")
	cmd.ExtraFiles = []*os.File{nil, nil, w}
	p, _, _ := testrun.StartReady(t, t.Context(), cmd, safeexec.WithTimeout(testrun.Unbounded))
	require.NoError(t, w.Close())
	l, err := safeexec.AuditFDs()
	require.NoError(t, err)
	pipe := find(t, l, int(r.Fd())).Pipe
	require.NotNil(t, pipe)
	require.Len(t, pipe.Peers, 1)
	assert.Equal(t, p.PID(), pipe.Peers[0].PID)
	assert.Equal(t, []int{5}, pipe.Peers[0].FDs)
	assert.NotEmpty(t, pipe.Peers[0].Name)
	_, _ = p.Stop()
	l, err = safeexec.AuditFDs()
	require.NoError(t, err)
	assert.Empty(t, find(t, l, int(r.Fd())).Pipe.Peers)
	assert.Contains(t, find(t, l, int(r.Fd())).String(), "none that we may see")
}

// audit prints the table of a process that was born with descriptors.
func audit([]string) int {
	l, err := safeexec.AuditFDs()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Print(l)
	return 0
}

func TestAuditTellsBorn(t *testing.T) {
	t.Parallel()
	cmd := testproc.RoleCommand(t, "audit")
	cmd.ExtraFiles = bornAt(t, bornFDs...)
	out, err := cmd.Output()
	require.NoError(t, err)
	born := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		for _, fd := range bornFDs {
			if f[0] == fmt.Sprint(fd) {
				born++
				assert.Equal(t, []string{"file", "rw", "inherited", "born"}, f[1:5])
			}
		}
		if f[1] == "eventpoll" {
			assert.Equal(t, []string{"closed", "opened"}, f[3:5], "the runtime's")
		}
	}
	assert.Equal(t, len(bornFDs), born, "%s", out)
}

// service is a program that logs to its standard error, more and more, and says on standard output
// what its health check finds before each line. The test decides what reads standard error.
//
//	service COUNT SIZE [GATE]   writes COUNT times SIZE bytes, unless the health check objects
func service(args []string) int {
	if len(args) > 2 {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	var count, size int
	fmt.Sscan(args[0], &count)
	fmt.Sscan(args[1], &size)
	for range count {
		for _, f := range safeexec.AuditStdio() {
			fmt.Println(f.FD.Num, f.Problem)
			fmt.Println(f)
			if f.FD.Num == 2 {
				return 0
			}
		}
		os.Stderr.Write(make([]byte, size))
	}
	fmt.Println("healthy")
	return 0
}

// TestStderrThatNobodyReads is the service whose standard error was a pipe to a program that did
// not read it: after a day the pipe was full, and every thread waited in write(2, …). The check
// finds it before that.
func TestStderrThatNobodyReads(t *testing.T) {
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	check := func(stderr *os.File, extra []*os.File, args ...string) []string {
		cmd := testproc.RoleCommand(t, "service", args...)
		cmd.Stderr, cmd.ExtraFiles = stderr, extra
		cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, "GODEBUG=") })
		out, err := cmd.Output()
		require.NoError(t, err)
		return lines(out)
	}

	r, w := pipe()
	found := check(w, nil, "1000", "1024")
	assert.Equal(t, "2 nearly full", found[0])
	assert.Contains(t, found[1], fmt.Sprintf("pid %d", os.Getpid()), "and who does not read")
	assert.Contains(t, found[1], " of 65536 bytes, ")
	r.Close()

	// Lines of a whole page at once jump over "nearly".
	_, w = pipe()
	fd := int(w.Fd())
	require.NoError(t, syscall.SetNonblock(fd, true))
	_, _ = unix.Write(fd, make([]byte, 1<<20))
	require.NoError(t, syscall.SetNonblock(fd, false))
	assert.Equal(t, "2 full", check(w, nil, "1", "1")[0])

	r, w = pipe()
	r.Close()
	assert.Equal(t, "2 no reader", check(w, nil, "1", "1")[0])

	r, w = pipe()
	own := testproc.RoleCommand(t, "service", "1", "1", "after the end of standard input")
	own.Stderr, own.ExtraFiles = w, []*os.File{r}
	gate, err := own.StdinPipe()
	require.NoError(t, err)
	var text strings.Builder
	own.Stdout = &text
	require.NoError(t, own.Start())
	r.Close() // now the service alone can read what it writes
	gate.Close()
	require.NoError(t, own.Wait())
	if testproc.Unprivileged() { // any of the processes that cannot be seen may read
		assert.Contains(t, []string{"2 no reader but this process", "healthy"}, lines([]byte(text.String()))[0])
	} else {
		assert.Equal(t, "2 no reader but this process", lines([]byte(text.String()))[0])
	}

	_, w = pipe()
	assert.Equal(t, []string{"healthy"}, check(w, nil, "10", "1024"))
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer file.Close()
	assert.Equal(t, []string{"healthy"}, check(file, nil, "100", "1024"))
}

func TestStdioClosed(t *testing.T) {
	t.Parallel()
	cmd := testproc.RoleCommand(t, "closed-stdio")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, []string{"0 closed", "2 closed"}, lines(out))
}

func init() {
	testproc.Roles["closed-stdio"] = func([]string) int {
		unix.Close(0)
		unix.Close(2)
		for _, f := range safeexec.AuditStdio() {
			fmt.Println(f.FD.Num, f.Problem)
		}
		return 0
	}
}
