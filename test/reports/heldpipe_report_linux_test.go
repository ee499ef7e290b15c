package reports_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
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

func init() { testproc.Roles["hold-pipe"] = holdPipe }

// holdPipe writes to descriptor 3 from memory that never comes. Meanwhile the kernel holds the pipe's lock.
func holdPipe(args []string) int {
	fd, err := unix.Open(args[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	page, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	unix.Write(3, page)
	return 0
}

// TestHeldPipeHoldsNoReport has a process hold the lock of the pipe that it is blocked on: every call on the
// pipe sleeps until the process has ended.
func TestHeldPipeHoldsNoReport(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := testproc.RoleCommand(t, "hold-pipe", testproc.HungFile(t))
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	w.Close()
	t.Cleanup(func() { // the file system, whose cleanup comes later, may have to be gone first
		cmd.Process.Kill()
		go cmd.Wait()
	})
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid := cmd.Process.Pid
	testproc.Wait(t, func() bool { // until it is in there
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		wchan, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
		return strings.HasPrefix(string(text), fmt.Sprint(syscall.SYS_WRITE)+" ") && strings.Contains(string(wchan), "wait_answer")
	})
	name := filepath.Base(os.Args[0]) // the kernel keeps 15 bytes of it
	report := testrun.Explained(t, pid, ".")
	holder := process(t, &report, name[:min(len(name), 15)])
	assert.True(t, holder.Unreadable, "it did not answer")
	assert.NotEmpty(t, holder.Threads)
	assert.NotEmpty(t, report.Verdict)
	info, err := r.Stat()
	require.NoError(t, err)
	inode := info.Sys().(*syscall.Stat_t).Ino
	use, err := safeexec.ExplainPipe(testproc.Deadline(t), inode)
	require.NoError(t, err)
	assert.NotEmpty(t, use.Writers)
	assert.Equal(t, -1, use.Size)
	fds, err := safeexec.AuditFDs()
	require.NoError(t, err)
	assert.NotEmpty(t, fds)
}
