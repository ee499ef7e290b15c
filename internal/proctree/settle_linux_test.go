package proctree

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// startsMarked starts a program for each line: where it writes its PID, the slice and the limit that it gives itself,
// its environment mark, and a word if it is to leave the session. It exits at the end of the lines.
const startsMarked = `while read said slice limit env leave; do
	(SAFEEXEC_RUN=$env SAFEEXEC_TEST_REMARK="$slice $limit" ${leave:+setsid} "$TEST" \
		sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 600' "$said" </dev/null >/dev/null &)
done`

// Each row of the table at [settle], with real processes that give themselves the marks. The leaders live until all
// have done so.
func TestTruthTable(t *testing.T) {
	skipDisabled(t, "limitmark")
	skipDisabled(t, "environmark")
	testproc.HasProgram(t, "setsid")
	exe, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("TEST", exe)
	a, b := startGated(t, startsMarked), startGated(t, startsMarked)
	slices := a.tree.Tracks()&TrackSlice != 0

	const x, y = 0x1234567, 0x2345678 // the numbers of runs that are none
	within := func(slice uint64) uint64 { return slice + x&sliceMask }
	name := func(id uint64) string { return strconv.FormatUint(id<<32|1, 36) }
	own := a.mark.slice - uint64(a.mark.id&sliceMask)
	type process struct{ row, said, whose string }
	var all []process
	met := map[string]bool{}
	dir := t.TempDir()
	const noLimit, noSlice, noEnviron = uint64(procfs.Unlimited), someSlice, "none"
	for i, row := range []struct {
		limit   uint64
		slice   uint64
		environ string
		whose   string // "" for nobody
	}{
		{a.mark.limit, a.mark.slice, noEnviron, "a"},
		{a.mark.limit, noSlice, a.mark.env, "a"},
		{a.mark.limit, noSlice, noEnviron, "a"},
		{noLimit, a.mark.slice, noEnviron, "a"},
		{noLimit, noSlice, a.mark.env, map[bool]string{true: "", false: "a"}[slices]},
		{noLimit, noSlice, noEnviron, ""},
		{limitOf(a.mark.half, x), within(a.mark.slice), a.mark.env + "/" + name(x), "a"},
		{limitOf(a.mark.half, x), within(a.mark.slice), noEnviron, "a"},
		{limitOf(y, x), within(a.mark.slice), a.mark.env + "/" + name(x), "a"},
		{limitOf(y, x), within(a.mark.slice), noEnviron, "a"},
		{limitOf(y, x), noSlice, a.mark.env + "/" + name(y) + "/" + name(x), "a"},
		{limitOf(y, x), a.mark.slice, a.mark.env, "a"},
		{limitOf(y, x), a.mark.slice, noEnviron, "a"},
		{limitOf(y, x), a.mark.slice, name(y), "a"}, // a leftover
		{limitOf(x, 1<<sliceBits), a.mark.slice, noEnviron, "a"},
		{limitFlag, a.mark.slice, noEnviron, "a"},
		{limitOf(y, x), a.mark.slice, name(x), ""},
		{limitOf(y, x), within(own), name(x), ""},
		{limitOf(y, a.mark.id&sliceMask|1<<sliceBits), a.mark.slice, noEnviron, ""},
		{limitOf(y, x), noSlice, name(x), ""},
		{limitOf(y, x), noSlice, noEnviron, ""},
		{b.mark.limit, b.mark.slice, noEnviron, "b"},
		{limitOf(b.mark.half, x), within(b.mark.slice), noEnviron, "b"},
		{b.mark.limit, noSlice, b.mark.env, "b"},
		{b.mark.limit, noSlice, noEnviron, "b"},
		{b.mark.limit, noSlice, a.mark.env, "a"},
		{limitOf(b.mark.half, x), noSlice, a.mark.env, "a"},
		{b.mark.limit, a.mark.slice, a.mark.env, "a"},
		{b.mark.limit, a.mark.slice, noEnviron, "a"},
		{b.mark.limit, a.mark.slice, b.mark.env, "b"},
		{a.mark.limit, noSlice, name(y), "a"}, // a leftover
	} {
		if !slices && row.slice != noSlice {
			continue
		}
		slice := row.slice
		if !slices {
			slice = 0
		}
		start := func(starter *subject, leave, whose string) {
			said := filepath.Join(dir, strconv.Itoa(len(all)))
			fmt.Fprintln(starter.stdin, said, slice, row.limit, row.environ, leave)
			all = append(all, process{fmt.Sprintf("row %d %q %+v", i, leave, row), said, whose})
		}
		start(a, "leave", row.whose)
		// In a leader's session a process is that leader's, whatever it bears. No kernel has a say in that.
		if testproc.Emulated() && met[row.whose] {
			continue
		}
		met[row.whose] = true
		if row.whose == "a" {
			start(b, "", "b")
		} else {
			start(a, "", "a")
		}
	}
	pids := make([]int, len(all))
	for i, p := range all {
		pids[i] = readPID(t, p.said)
		defer syscall.Kill(pids[i], syscall.SIGKILL)
	}
	want := map[string][]int{}
	for i, p := range all {
		testproc.WaitComm(t, pids[i], "sleep")
		want[p.whose] = append(want[p.whose], pids[i])
	}
	for name, s := range map[string]*subject{"a": a, "b": b} {
		s.stdin.Close()
		s.tree.WaitLeader()
		s.tree.sessionPinned = true
		for i, p := range all {
			judge := func() bool {
				s.tree.allot(time.Time{})
				clear(s.tree.silent)
				return s.tree.judge(pids[i], anywhere) == ours
			}
			if name != p.whose {
				assert.False(t, judge(), "%s of %s", name, p.row)
			} else if !judge() { // on a busy machine an environment that is all there is may take longer than a look gives it
				t.Logf("%s of %s: once more", name, p.row)
				await(t, judge)
			}
		}
	}
	for name, s := range map[string]*subject{"a": a, "b": b} {
		var found []int
		await(t, func() bool {
			members, sure := s.tree.Live()
			found = pidsOf(members)
			return sure && len(found) == len(want[name]) // those between are on their way out
		})
		assert.ElementsMatch(t, want[name], found)
	}
}

// A process with the limit mark of a run is not that run's before its environment was asked for, however many others
// the look has asked and whoever else is asked: where no time is left, the look is not sure. One that keeps its
// environment back is whose limit mark it bears.
func TestEnvironmentThatIsNotHadInTime(t *testing.T) {
	skipDisabled(t, "limitmark")
	skipDisabled(t, "environmark")
	testproc.HasProgram(t, "setsid")
	exe, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("TEST", exe)
	a, b := startGated(t, startsMarked), startGated(t, startsMarked)
	slice := uint64(0)
	if a.tree.Tracks()&TrackSlice != 0 {
		slice = someSlice
	}
	said := filepath.Join(t.TempDir(), "said")
	fmt.Fprintln(a.stdin, said, slice, b.mark.limit, a.mark.env, "leave") // a's, with b's limit
	pid := readPID(t, said)
	defer syscall.Kill(pid, syscall.SIGKILL)
	testproc.WaitComm(t, pid, "sleep")
	for _, s := range []*subject{a, b} {
		s.stdin.Close()
		s.tree.WaitLeader()
		s.tree.sessionPinned = true
	}
	stuckReaders.Add(maxStuck) // of other runs
	defer stuckReaders.Add(-maxStuck)
	judge := func(s *subject, left time.Duration) verdict {
		s.tree.lookEnds, s.tree.unheard = time.Now().Add(left), false
		return s.tree.judge(pid, anywhere)
	}
	assert.Equal(t, ours, judge(a, time.Hour))
	assert.Equal(t, foreign, judge(b, time.Hour))
	assert.False(t, a.tree.unheard || b.tree.unheard)
	for _, s := range []*subject{a, b} {
		assert.NotEqual(t, ours, judge(s, -time.Hour))
		assert.True(t, s.tree.unheard, "another look has to ask")
		s.tree.silent = map[int]silence{pid: silent}
	}
	assert.NotEqual(t, ours, judge(a, -time.Hour))
	assert.Equal(t, ours, judge(b, -time.Hour))
	assert.False(t, a.tree.unheard || b.tree.unheard)
}

// An environment that did not come in time proves nothing, until it did not come when it was asked for with patience.
func TestLateEnvironmentIsAskedForAgain(t *testing.T) {
	skipDisabled(t, "environmark")
	testproc.HasProgram(t, "prlimit")
	s := startGated(t, `(setsid prlimit --rttime=unlimited: sh -c 'echo ready $$; exec sleep 600' &); exit 0`)
	pid := testproc.Ready(t, s.stdout)[0]
	s.tree.WaitLeader()
	s.tree.mark.tracks &^= TrackSlice
	s.tree.readers = new(atomic.Int32)
	noReaders := func() bool { return s.tree.readers.Load() == 0 } // is left behind
	defer func(read func(procfs.Thread, string) (string, procfs.EnvironAnswer, error)) {
		await(t, noReaders)
		environOf = read
	}(environOf)
	goOn := make(chan struct{})
	environOf = func(thread procfs.Thread, key string) (string, procfs.EnvironAnswer, error) {
		<-goOn
		return thread.Environ(key)
	}
	look := func() verdict {
		s.tree.allot(time.Time{})
		s.tree.unheard = false
		return s.tree.judge(pid, birthWindow)
	}
	await(t, func() bool { // a busy machine's look may be over before it asks
		assert.Equal(t, unknown, look())
		assert.True(t, s.tree.unheard)
		return s.tree.silent[pid] == late
	})
	goOn <- struct{}{}
	close(goOn)
	await(t, func() bool {
		s.tree.silent[pid] = late // or a busy machine takes the only chance
		return look() == ours
	})
	assert.False(t, s.tree.unheard)

	await(t, noReaders) // they wait at goOn
	goOn = make(chan struct{})
	s.tree.silent = nil
	assert.Equal(t, unknown, look())
	assert.True(t, s.tree.unheard)
	await(t, func() bool { // it keeps its environment back
		assert.Equal(t, unknown, look())
		return !s.tree.unheard
	})
	readers := s.tree.readers.Load()
	assert.Equal(t, unknown, look())
	assert.Equal(t, readers, s.tree.readers.Load(), "it is not asked again")
	close(goOn)
	clear(s.tree.silent)
}
