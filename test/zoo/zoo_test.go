//go:build linux

package zoo_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A way is how a run of the zoo ends.
type way string

const (
	stay  way = "stay"  // the leader is there when the run is stopped
	leave way = "leave" // the leader exits as soon as its tree stands
)

var bothWays = []way{stay, leave}

// waysOf has each rung run the i-th subject one way, and the next rung the other; in a soak all run it both ways.
func (r rung) waysOf(i int) []way {
	if testproc.Soaking() {
		return bothWays
	}
	return bothWays[(i+slices.IndexFunc(rungs, r.is))%2:][:1]
}

// sharesOf is waysOf for programs of others, of which only the first rung, which is what most runs have, has all.
func (r rung) sharesOf(i int) []way {
	if n := slices.IndexFunc(rungs, r.is); n > 0 && (i+n)%2 == 0 && !testproc.Soaking() {
		return nil
	}
	return r.waysOf(i)
}

// A specimen is a kind of tree that somebody's way to end commands misses. Package testproc has the
// programs.
type specimen struct {
	kind  string
	n     int             // its size; 1 if 0
	ways  []way           // both if nil
	seen  safeexec.Tracks // each of these finds all of it, and so do the marks
	sheds safeexec.Tracks // but for this mark
	moves bool            // what stood at first is not what is killed
	grace time.Duration   // 0: SIGKILL at once
}

var specimens = []specimen{
	{kind: "chain", n: 100, seen: bySession | byEnvironment},
	{kind: "fan", n: 150, seen: bySession | byEnvironment},
	{kind: "ignores-all", seen: byEnvironment, grace: 50 * time.Millisecond},
	{kind: "stopped", seen: byEnvironment},
	{kind: "stopped", seen: byEnvironment, grace: testrun.Bound, ways: []way{stay}},
	{kind: "setsid", n: 20, seen: byEnvironment},
	{kind: "double-fork", n: 20, seen: byEnvironment},
	{kind: "no-environment"},
	{kind: "overwrites-environment"},
	{kind: "other-user", seen: byEnvironment},
	{kind: "non-dumpable"},
	{kind: "named-like-stat", seen: byEnvironment},
	{kind: "named-with-newline", seen: byEnvironment},
	{kind: "sheds-limit", seen: byEnvironment, sheds: byLimit},
	{kind: "mixed", n: 100},
	{kind: "hops", n: manyBirths, seen: byEnvironment, moves: true},
	{kind: "respawns", seen: byEnvironment, moves: true},
	{kind: "resurrects", seen: byEnvironment, moves: true},
	{kind: "forks-on-term", n: 5, seen: byEnvironment, moves: true, grace: 50 * time.Millisecond},
	{kind: "clone-parent", seen: byEnvironment},
	{kind: "clone-sibling", seen: byEnvironment},
	{kind: "shares-memory", seen: byEnvironment},
	{kind: "vfork-parent", seen: byEnvironment, moves: true},
	{kind: "traced", seen: byEnvironment, moves: true},
	{kind: "first-thread-exits"},
	{kind: "leader-thread-exits", ways: []way{stay}, seen: bySession | byEnvironment},
	{kind: "zombie-session", seen: byEnvironment},
	{kind: "subreaper", seen: byEnvironment},
	{kind: "own-pid-namespace", seen: byEnvironment, moves: true},
}

func (e specimen) String() string {
	if e.grace != 0 {
		return e.kind + "-term"
	}
	return e.kind
}

// skipShort leaves out the longer part of the zoo, which has rungs of its own, where a whole suite is
// repeated for something else.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the zoo is run without it")
	}
}

// TestZoo runs each specimen on each rung of containment. Whoever is seen by a track that is in force
// has to be dead when the run returns; bystanders have to be untouched.
func TestZoo(t *testing.T) {
	onEachRung(t, func(t *testing.T, r rung) {
		for i, e := range specimens {
			ways := e.ways
			if ways == nil {
				ways = r.waysOf(i)
			}
			for _, w := range ways {
				t.Run(fmt.Sprintf("%v/%s", e, w), func(t *testing.T) {
					t.Parallel()
					e.run(t, r, w)
				})
			}
		}
	})
}

// finds reports whether somebody who has these tracks has to find all of the escapee.
func (r rung) finds(e specimen, tracks safeexec.Tracks) bool {
	return r.all || tracks&((e.seen|byLimit|bySlice)&^e.sheds) != 0
}

// run runs a specimen.
func (e specimen) run(t *testing.T, r rung, w way) {
	t.Helper()
	program := testproc.EscapeeProgram(t)
	before := testproc.NewBystander(t, program)
	n := max(e.n, 1)
	if e.n == manyBirths {
		n = births()
	}
	cmd := exec.Command(program, e.kind, string(w), strconv.Itoa(n))
	canary := testproc.WithCanary(t, cmd)
	p, out := startPiped(t, cmd, r, safeexec.WithGracePeriod(e.grace))
	canary.CloseParent()
	pids := readyOrSkip(t, p, out)
	during := testproc.NewBystander(t, program)

	var end ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		if w == stay {
			end.res, end.err = p.Stop()
		} else {
			end.res, end.err = p.Wait()
		}
	}()
	after := testproc.NewBystander(t, program)
	<-done

	promised := r.finds(e, end.res.Tracks)
	if e.kind == "hops" && testproc.IsDisabled("loadavg") {
		promised = r.name == "cgroup" // without the last PID, looks that a busy machine outruns are believed
	}
	end.proves(t, canary, promised, w)
	if e.kind == "clone-sibling" && promised {
		_, _ = syscall.Wait4(pids[1], nil, 0, nil) // it is a child of this process
	}
	for _, b := range []*testproc.Bystander{before, during, after} {
		end.spared(t, b)
	}
	if promised && !e.moves {
		assert.Subset(t, testrun.PIDs(end.res.Killed), pids[1:], "however busy the machine is")
	}
}

// startPiped starts the command with the options of the rung. The test reads its standard output.
func startPiped(t *testing.T, cmd *exec.Cmd, r rung, opts ...safeexec.Option) (*safeexec.Process, io.Reader) {
	t.Helper()
	out, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { out.Close() })
	cmd.Stdout = w
	open := r.gated(t, cmd)
	all := []safeexec.Option{
		safeexec.WithTimeout(testrun.Unbounded), safeexec.WithLinger(0), safeexec.WithKillTimeout(testrun.Unbounded),
	}
	all = append(append(all, opts...), r.opts...)
	p, err := safeexec.Start(testproc.Deadline(t), cmd, all...)
	require.NoError(t, w.Close())
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = p.Stop() })
	open()
	return p, out
}

// readyOrSkip reads a ready line. Where the program says that it can do nothing here, the test is
// skipped with the reason.
func readyOrSkip(t *testing.T, p *safeexec.Process, out io.Reader) []int {
	t.Helper()
	first := make([]byte, 1)
	if _, err := io.ReadFull(out, first); err != nil {
		res, err := p.Wait()
		if testproc.Unsupported(res.State) {
			t.Skip(res.Stderr.String())
		}
		require.NoError(t, err)
		t.Fatal("it is not ready: ", res.Stderr.String())
	}
	return testproc.Ready(t, io.MultiReader(strings.NewReader(string(first)), out))
}

// ended is how a run of the zoo ended, and what must be true then.
type ended struct {
	res safeexec.Result
	err error
}

// proves checks that nobody of the tree lives, by the pipe that all of them hold, and that the result
// says so. Where nothing is promised it says what became of the tree.
func (e *ended) proves(t *testing.T, canary *testproc.Canary, promised bool, w way) {
	t.Helper()
	if living := canary.Living(); len(living) > 0 && !promised {
		t.Logf("not promised here, and %d live", len(living))
		return
	} else if len(living) > 0 {
		t.Errorf("%d live after the run: %v; survivors %v, error %v", len(living), living, e.res.Survivors, e.err)
		return
	}
	e.tells(t, w)
}

// tells checks what a result says of a tree that is gone.
func (e *ended) tells(t *testing.T, w way) {
	t.Helper()
	for _, p := range e.res.Killed {
		assert.False(t, testproc.Lives(p.PID, p.StartTicks), "%v is said to have been killed", p)
	}
	assert.Empty(t, e.res.Survivors)
	assert.Empty(t, e.res.Holders)
	for _, a := range e.res.Abandoned {
		// On a busy machine a look into a process can take longer than is waited for.
		assert.Contains(t, []safeexec.Abandoned{safeexec.AbandonedLook, safeexec.AbandonedReport}, a)
	}
	switch {
	case w == stay:
		assert.ErrorIs(t, e.err, safeexec.ErrStopped)
	case errors.Is(e.err, safeexec.ErrTreeUnseen):
		t.Log("the machine is too busy for a look to be believed:", e.err)
	default:
		assert.NoError(t, e.err)
	}
}

// spared checks that a bystander got no signal, and is not said to have got one.
func (e *ended) spared(t *testing.T, b *testproc.Bystander) {
	t.Helper()
	for _, list := range [][]safeexec.ProcessInfo{e.res.Killed, e.res.Survivors} {
		assert.NotContains(t, testrun.PIDs(list), b.PID())
	}
	b.Untouched(t)
}
