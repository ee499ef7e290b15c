package fdtable

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { testproc.Roles["stdio"] = stdio }

// stdio waits for the end of its standard input, closes the descriptors of its arguments, and writes what is wrong with
// the standard streams to descriptor 3.
func stdio(args []string) int {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return testproc.Fail(err)
	}
	for _, arg := range args {
		fd, err := strconv.Atoi(arg)
		if err == nil {
			err = unix.Close(fd)
		}
		if err != nil {
			return testproc.Fail(err)
		}
	}
	if err := json.NewEncoder(os.NewFile(FirstFD, "")).Encode(Stdio()); err != nil {
		return testproc.Fail(err)
	}
	return 0
}

// stdioOf starts a process with that standard output, and that file as descriptor 4 if it is not nil. It calls
// started, and returns what the process finds then.
func stdioOf(t *testing.T, stdout, four *os.File, started func(), args ...string) (pid int, found []StdioFinding) {
	t.Helper()
	result, w := pipe(t)
	stdin, begin := pipe(t)
	cmd := testproc.RoleCommand(t, "stdio", args...)
	null := asFile(t, open(t, "/dev/null", unix.O_RDWR))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, null
	cmd.ExtraFiles = []*os.File{w, four}
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	started()
	require.NoError(t, begin.Close())
	require.NoError(t, json.NewDecoder(result).Decode(&found))
	require.NoError(t, cmd.Wait())
	return cmd.Process.Pid, found
}

// problem returns what is wrong, at most one thing, with a standard output.
func problem(t *testing.T, stdout *os.File, args ...string) (p StdioFinding) {
	t.Helper()
	_, found := stdioOf(t, stdout, nil, func() {}, args...)
	if len(found) == 0 {
		return p
	}
	require.Len(t, found, 1)
	assert.Equal(t, 1, found[0].FD.Num)
	return found[0]
}

// fill writes n bytes, or as many as there is room for.
func fill(t *testing.T, f *os.File, n int) {
	t.Helper()
	raw, err := f.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetNonblock(int(fd), true))
		for n > 0 {
			wrote, err := unix.Write(int(fd), make([]byte, n))
			if err == unix.EAGAIN {
				return
			}
			require.NoError(t, err)
			n -= wrote
		}
	}))
}

func TestStdioPipe(t *testing.T) {
	r, w := pipe(t)
	assert.Empty(t, problem(t, w))
	size, err := sys.PipeSize(int(w.Fd()))
	require.NoError(t, err)
	fill(t, w, size/4*3-1)
	assert.Empty(t, problem(t, w))
	fill(t, w, 1)
	assert.Equal(t, StdioNearlyFull, problem(t, w).Problem)
	fill(t, w, size)
	full := problem(t, w)
	assert.Equal(t, StdioFull, full.Problem)
	require.Len(t, full.FD.Pipe.Peers, 1)
	assert.Equal(t, os.Getpid(), full.FD.Pipe.Peers[0].PID)
	assert.Equal(t, []int{int(r.Fd())}, full.FD.Pipe.Peers[0].FDs)
	require.NoError(t, r.Close())
	assert.Equal(t, StdioNoReader, problem(t, w).Problem)
}

func TestStdioOwnReader(t *testing.T) {
	r, w := pipe(t)
	_, found := stdioOf(t, w, r, func() {})
	assert.Empty(t, found, "this process reads too")
	pid, found := stdioOf(t, w, r, func() { r.Close() })
	if !testproc.Unprivileged() { // or another's process, which it may not look at, may read
		require.Len(t, found, 1)
		assert.Equal(t, StdioOwnReader, found[0].Problem)
		require.Len(t, found[0].FD.Pipe.Peers, 1)
		assert.Equal(t, pid, found[0].FD.Pipe.Peers[0].PID)
		assert.Equal(t, []int{4}, found[0].FD.Pipe.Peers[0].FDs)
	}

	r, w = pipe(t)
	another := testproc.Command("hang")
	another.ExtraFiles = []*os.File{r}
	out, err := another.StdoutPipe()
	require.NoError(t, err)
	_, found = stdioOf(t, w, r, func() {
		require.NoError(t, another.Start())
		testproc.Ready(t, out)
		r.Close()
	})
	assert.Empty(t, found, "a younger process reads too")
	require.NoError(t, another.Process.Kill())
	require.Error(t, another.Wait())
}

func TestStdioOfOtherKinds(t *testing.T) {
	assert.Equal(t, StdioFinding{FD: FD{Num: 1}, Problem: StdioClosed}, problem(t, nil, "1"))
	assert.Empty(t, problem(t, nil), "/dev/null")
	tty := testproc.NewPTY(t)
	tty.HangUp()
	assert.Empty(t, problem(t, tty.Slave()), "a terminal that is gone never blocks")

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	assert.Empty(t, problem(t, theirs))
	fill(t, theirs, 1<<24)
	full := problem(t, theirs)
	assert.Equal(t, StdioFull, full.Problem)
	assert.Equal(t, KindSocket, full.FD.Kind)
	require.NoError(t, ours.Close())
	assert.Equal(t, StdioNoReader, problem(t, theirs).Problem)
}
