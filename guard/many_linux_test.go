package guard_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// One guard is enough for many runs: it does not grow with them, and ends them all.
func TestManyRuns(t *testing.T) {
	t.Parallel()
	many := min(testproc.Rounds(10), 499) // and the first
	p := start(t, "many", "sleep 7070 & exec sleep 7070")
	began := time.Now()
	p.tell(t, "1")
	require.Equal(t, "started", p.line(t))
	first := time.Since(began)
	guards := p.guards()
	require.Len(t, guards, 1)
	before := sizeOf(t, guards[0])
	began = time.Now()
	p.tell(t, fmt.Sprint(many))
	require.Equal(t, "started", p.line(t))
	each := time.Since(began) / time.Duration(many)
	require.Equal(t, guards, p.guards())
	after := sizeOf(t, guards[0])
	assert.Less(t, after.files, before.files+many/2)
	assert.Less(t, after.threads, before.threads+many/2+4) // the runtime's own
	began = time.Now()
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	gone := time.Since(began)
	p.guardGone(t)
	t.Logf("the first start, with that of the guard, took %v, each other one %v", first.Round(time.Microsecond), each)
	t.Logf("the guard of one run: %v; of %d: %v; their trees were gone %v after the kill, the guard %v",
		before, many+1, after, gone.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	assert.Len(t, p.records(t), many+1)
}

// A size is what a process takes of the machine.
type size struct {
	files, threads  int
	resident, alone string
}

func (s size) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %s resident, of which %s its own", s.files, s.threads, s.resident, s.alone)
}

func sizeOf(t *testing.T, pid int) (s size) {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	s.files = len(files)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	require.NoError(t, err)
	s.threads = len(threads)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "VmRSS":
			s.resident = strings.TrimSpace(value)
		case "RssAnon":
			s.alone = strings.TrimSpace(value)
		}
	}
	return s
}
