package guard

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func newTable(t *testing.T) table {
	file, err := sys.Memfd("test")
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return table{file}
}

func TestTable(t *testing.T) {
	tab := newTable(t)
	runs, err := tab.read()
	require.NoError(t, err)
	assert.Empty(t, runs)

	first := Run{
		Program: "a", Trace: proctree.Trace{Start: 7, Environ: "x/y", Slice: 3000005, Limit: 1<<62 | 5},
		Ladder: Ladder{Signal: 15, Grace: time.Second, Kill: 2 * time.Second}, Cgroup: "/sys/fs/cgroup/safeexec-1-2",
	}
	second := Run{Program: "b", Trace: proctree.Trace{Environ: "z"}}
	require.NoError(t, tab.set(0, 1, &first))
	require.NoError(t, tab.set(2, 2, &second))
	runs, err = tab.read()
	require.NoError(t, err)
	assert.Equal(t, []entry{{Run: first}, {Run: second}}, runs, "not begun, and nothing where a place is free")

	trace := proctree.Trace{PID: 12, Start: 34, Limit: 56, Outer: 78, Environ: "x/y", Slice: 90}
	require.NoError(t, tab.started(0, 1, &trace))
	runs, err = tab.read()
	require.NoError(t, err)
	begun := first
	begun.Trace = trace
	assert.Equal(t, []entry{{begun, true}, {Run: second}}, runs)

	require.NoError(t, tab.set(0, 3, &second))
	runs, err = tab.read()
	require.NoError(t, err)
	assert.Equal(t, []entry{{Run: second}, {Run: second}}, runs, "another start has another leader")

	tab.remove(0)
	tab.remove(2)
	runs, err = tab.read()
	require.NoError(t, err)
	assert.Empty(t, runs)
}

func TestTableRefusesWhatIsTooLong(t *testing.T) {
	tab := newTable(t)
	require.NoError(t, tab.set(0, 1, &Run{Cgroup: strings.Repeat("\xff", startedAt-500)}))
	assert.ErrorIs(t, tab.set(1, 2, &Run{Cgroup: strings.Repeat("d", startedAt)}), errTooLong)
	runs, err := tab.read()
	require.NoError(t, err)
	require.Len(t, runs, 1)
	assert.Equal(t, strings.Repeat("\xff", startedAt-500), runs[0].Cgroup)
}

// What makes no sense is said, and the rest is read.
func TestTableIsDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		at   int64
		text string
		want []entry
	}{
		"length":            {0, "\xff\xff\xff\x7f", []entry{{Run: Run{Program: "b"}}}},
		"number":            {0, "\x02\x00\x00\x00\x80\x80", []entry{{Run: Run{Program: "b"}}}},
		"text":              {0, "\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x7f", []entry{{Run: Run{Program: "b"}}}},
		"of what was begun": {startedAt, "\x01\x00\x00\x00\x01", []entry{{Run: Run{Program: "a"}}, {Run: Run{Program: "b"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			tab := newTable(t)
			require.NoError(t, tab.set(0, 1, &Run{Program: "a"}))
			require.NoError(t, tab.set(1, 2, &Run{Program: "b"}))
			_, err := tab.file.WriteAt([]byte(c.text), c.at)
			require.NoError(t, err)
			runs, err := tab.read()
			assert.ErrorIs(t, err, errDamaged)
			assert.Equal(t, c.want, runs)
		})
	}
}

// What a run costs the program, beside the start of the first: its ward.
func TestAllocations(t *testing.T) {
	testproc.NoRaceDetector(t)
	host.Lock()
	host.table, host.socket = newTable(t).file, os.Stdin // as with a helper
	host.Unlock()
	defer func() {
		host.Lock()
		host.table, host.socket = nil, nil
		host.Unlock()
	}()
	run := Run{Program: "program", Trace: proctree.Trace{Start: 1, Environ: "abcdefgh"}, Cgroup: "/sys/fs/cgroup/safeexec-1-1"}
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		w, err := Take(nil, time.Time{})
		if err == nil {
			err = w.Set(run)
		}
		if err != nil {
			t.Error(err)
		}
		w.Started(run.Trace)
		w.End()
	}), 1.0)
	assert.Equal(t, 1, host.places, "the same one")
}
