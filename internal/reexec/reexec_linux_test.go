package reexec

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

const (
	variable = "SAFEEXEC_TEST_REEXEC"
	name     = "reexec-test"
)

func TestMain(m *testing.M) {
	if c := Became(variable, name); c != nil {
		_, err := c.Files[0].WriteString("written")
		if st, e := procfs.ReadStat(c.PID); err == nil && e == nil && st.StartTime == c.Start {
			_, _ = c.Socket.WriteString("hello")
		}
		_, _ = c.Socket.Read(make([]byte, 1)) // until the program's end is closed
		os.Exit(0)
	}
	testproc.Main(m)
}

// TestCopy has a copy, which is no child of this process, be heard, have its file, and end when it is told to.
func TestCopy(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	socket, err := Start(testproc.Deadline(t), variable, name, file)
	require.NoError(t, err)
	defer socket.Close()
	text := make([]byte, 100)
	n, err := socket.Read(text)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(text[:n]))
	got, err := io.ReadAll(io.NewSectionReader(file, 0, 100))
	require.NoError(t, err)
	assert.Equal(t, "written", string(got))
}

// TestReaped has a copy that this process adopts leave no zombie, however it ends.
func TestReaped(t *testing.T) {
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	require.NoError(t, sys.SetSubreaper())
	defer func() { require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	for how, end := range map[string]func(socket *os.File, pid int){
		"dismissed": func(socket *os.File, _ int) { Dismiss(socket) },
		"killed": func(socket *os.File, pid int) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			socket.Close()
		},
	} {
		t.Run(how, func(t *testing.T) {
			file, err := os.CreateTemp(t.TempDir(), "")
			require.NoError(t, err)
			defer file.Close()
			socket, err := Start(testproc.Deadline(t), variable, name, file)
			require.NoError(t, err)
			_, err = socket.Read(make([]byte, 100))
			require.NoError(t, err)
			copies := children(t)
			require.Len(t, copies, 1)
			end(socket, copies[0])
			testproc.Wait(t, func() bool { return len(children(t)) == 0 })
		})
	}
}

// children returns those of our children that are copies, zombies too.
func children(t *testing.T) (copies []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		if st, err := procfs.ReadStat(pid); err == nil && st.PPID == os.Getpid() && st.Comm == name {
			copies = append(copies, pid)
		}
	}
	return copies
}

func TestParse(t *testing.T) {
	stage, c, files, ok := parse("copy:12:345:3")
	assert.True(t, ok)
	assert.Equal(t, []any{stageCopy, Copy{PID: 12, Start: 345}, 3}, []any{stage, c, files})
	for _, text := range []string{
		"", "copy", "copy:1:2", "else:1:1:1", "copy:0:1:1", "copy:x:1:1", "copy:1:-1:1", "copy:1:1:-1", "copy:1:1:99", "copy:1:1:1:1",
	} {
		_, _, _, ok := parse(text)
		assert.False(t, ok, text)
	}
}

func TestEnvironHasNoVariable(t *testing.T) {
	t.Setenv(variable, "x")
	t.Setenv(variable+"_OTHER", "y")
	assert.NotContains(t, environ(variable), variable+"=x")
	assert.Contains(t, environ(variable), variable+"_OTHER=y")
}
