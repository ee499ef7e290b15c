package incidents

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() { testproc.Roles["hold-reopened"] = holdReopened }

// holdReopened opens its standard output for reading, writes, gives up the end that it was born with, and reads into a
// page that never comes: unless what it wrote was read before, it holds the pipe.
func holdReopened([]string) int {
	_, page, err := testproc.MissingPage()
	if err != nil {
		return 1
	}
	reader, err := unix.Open("/proc/self/fd/1", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	_, _ = unix.Write(1, make([]byte, 1<<10))
	_ = unix.Close(1)
	_, _ = unix.Read(reader, page)
	return 0
}

// TestIncidentHeldByAReader: a command held its output's pipe as a reader, without any writer left. That none was left
// counted as proof that no process could hold the pipe, and Run hung in its next read.
func TestIncidentHeldByAReader(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.NeedsMissingPages(t)
	ctx := testproc.Deadline(t)
	for held := false; !held; { // by the command that is faster than the run
		if ctx.Err() != nil {
			t.Skip("the run always read first")
		}
		cmd := testproc.RoleCommand(t, "hold-reopened")
		cmd.Stdout, cmd.Stderr = nil, nil
		p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(0))
		require.NoError(t, err)
		testproc.Wait(t, func() bool {
			held = testproc.SleepsIn(p.PID(), syscall.SYS_READ)
			return held || testproc.Dead(p.PID())
		})
		if !held {
			_, err := p.Wait()
			require.NoError(t, err)
			continue
		}
		testproc.Wait(t, func() bool { return asleep(os.Getpid()) })
		res, err := p.Stop()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.True(t, testproc.Dead(p.PID()))
		assert.Empty(t, res.Survivors)
	}
}

// asleep reports whether a thread of the process is in a sleep that no signal ends.
func asleep(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(stats, func(stat string) bool {
		text, _ := os.ReadFile(stat)
		return bytes.Contains(text, []byte(") D "))
	})
}
