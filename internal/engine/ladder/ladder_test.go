package ladder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m, testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// warm opens what trees keep for the life of the process.
func warm() {
	cmd := exec.Command("true")
	if cmd.Start() != nil {
		return
	}
	var tree proctree.Tree
	tree.Init(proctree.Origin{Process: cmd.Process, Started: time.Now()})
	tree.MarkBorn()
	tree.Live()
	tree.Close()
	_ = cmd.Wait()
}

// never is a bound that no test is meant to reach.
const never = time.Hour

// A watch is a poller that tells of nothing. It counts what is watched.
type watch struct {
	tokens map[int]int // by descriptor
	fails  error
	waits  int
}

func (w *watch) SetsNonblock() bool { return false }
func (w *watch) Wake()              {}
func (w *watch) Close()             {}

func (w *watch) Add(fd int, _ poll.Direction, token int) error {
	if w.fails == nil {
		w.tokens[fd] = token
	}
	return w.fails
}

func (w *watch) Remove(fd int) error {
	delete(w.tokens, fd)
	return nil
}

func (w *watch) Wait(time.Time) ([]poll.Event, error) {
	w.waits++
	return nil, w.fails
}

// A waiter sees to nothing else.
type waiter struct {
	steps []time.Time // until when
	step  func(until time.Time)
	cut   func(rung syscall.Signal) bool
}

func (w *waiter) Step(until time.Time) {
	w.steps = append(w.steps, until)
	if w.step != nil {
		w.step(until)
	} else {
		time.Sleep(time.Until(until))
	}
}

func (w *waiter) CutShort(rung syscall.Signal) bool { return w.cut != nil && w.cut(rung) }

// A player is an actor that remembers what it was sent.
type player struct {
	heard []string
	hears func(sig syscall.Signal) bool
	begun time.Time
}

func (p *player) Live(seam.Stage) seam.End { return seam.End{} }
func (p *player) Report() any              { return nil }
func (p *player) Signal(sig syscall.Signal) bool {
	p.heard = append(p.heard, fmt.Sprintf("%v at %v", sig, time.Since(p.begun)))
	return p.hears == nil || p.hears(sig)
}

// The signals come in their order, each once what the one before has is over or the waiter has no time for it.
func TestClimb(t *testing.T) {
	const second = time.Second
	for _, tt := range []struct {
		name  string
		rungs Rungs
		ends  time.Duration                    // when the actor is seen to exit; 0 for never
		cuts  map[syscall.Signal]time.Duration // from then on the wait behind the signal is over
		hears func(sig syscall.Signal) bool
		heard []string
		sent  uint64
		empty bool
		took  time.Duration
	}{
		{
			name: "it never ends", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second},
			heard: []string{"terminated at 0s", "killed at 5s"}, took: 7 * second,
			sent: SignalBit(syscall.SIGTERM) | SignalBit(syscall.SIGKILL),
		},
		{
			name: "it ends in time", rungs: Rungs{syscall.SIGHUP, 5 * second, 2 * second}, ends: 3 * second,
			heard: []string{"hangup at 0s"}, took: 3 * second, empty: true, sent: SignalBit(syscall.SIGHUP),
		},
		{
			name: "it ends at the last moment", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second}, ends: 5 * second,
			heard: []string{"terminated at 0s"}, took: 5 * second, empty: true, sent: SignalBit(syscall.SIGTERM),
		},
		{
			name: "it is killed at once", rungs: Rungs{0, 5 * second, 2 * second}, ends: second,
			heard: []string{"killed at 0s"}, took: second, empty: true, sent: SignalBit(syscall.SIGKILL),
		},
		{
			name: "there is no time for the first", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second}, ends: second,
			cuts:  map[syscall.Signal]time.Duration{syscall.SIGTERM: 0},
			heard: []string{"killed at 0s"}, took: second, empty: true, sent: SignalBit(syscall.SIGKILL),
		},
		{
			name: "the first is cut short", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second}, ends: 4 * second,
			cuts:  map[syscall.Signal]time.Duration{syscall.SIGTERM: 3 * second},
			heard: []string{"terminated at 0s", "killed at 3s"}, took: 4 * second, empty: true,
			sent: SignalBit(syscall.SIGTERM) | SignalBit(syscall.SIGKILL),
		},
		{
			name: "there is no time for any", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second},
			cuts: map[syscall.Signal]time.Duration{syscall.SIGTERM: 0, syscall.SIGKILL: 0},
		},
		{
			name: "it is deaf to the first", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second}, ends: second,
			hears: func(sig syscall.Signal) bool { return sig == syscall.SIGKILL },
			heard: []string{"terminated at 0s", "killed at 0s"}, took: second, empty: true,
			sent: SignalBit(syscall.SIGTERM) | SignalBit(syscall.SIGKILL),
		},
		{
			name: "it is deaf to all", rungs: Rungs{syscall.SIGTERM, 5 * second, 2 * second},
			hears: func(syscall.Signal) bool { return false },
			heard: []string{"terminated at 0s", "killed at 0s"},
			sent:  SignalBit(syscall.SIGTERM) | SignalBit(syscall.SIGKILL),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				p := &player{begun: begun, hears: tt.hears}
				e := &Climber{Actor: p}
				e.Waiter = &waiter{
					step: func(until time.Time) {
						next := until
						for _, d := range tt.cuts {
							if at := begun.Add(d); at.After(time.Now()) {
								next = Earlier(next, at)
							}
						}
						if tt.ends != 0 {
							next = Earlier(next, begun.Add(tt.ends))
						}
						time.Sleep(time.Until(next))
						e.Exited = tt.ends != 0 && time.Since(begun) >= tt.ends
					},
					cut: func(rung syscall.Signal) bool {
						from, cuts := tt.cuts[rung]
						return cuts && time.Since(begun) >= from
					},
				}
				e.End(tt.rungs)
				assert.Equal(t, tt.heard, p.heard)
				assert.Equal(t, tt.took, time.Since(begun))
				assert.Equal(t, tt.empty, e.Empty)
				assert.Equal(t, tt.sent, e.Sent)
			})
		})
	}
}

// What has exited is sent nothing that counts as the leader's, and an empty tree nothing at all.
func TestNothingIsSentToNobody(t *testing.T) {
	p := new(player)
	e := &Climber{Actor: p, Waiter: new(waiter), Empty: true}
	e.End(Rungs{syscall.SIGTERM, never, never})
	assert.Empty(t, p.heard)
	e.Empty, e.Exited = false, true
	e.End(Rungs{syscall.SIGTERM, never, never})
	assert.Len(t, p.heard, 1)
	assert.Zero(t, e.Sent)
	assert.True(t, e.Empty)
}

// Without a poller a step is a short sleep, never behind the time that it was given, and that stays so.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watch{fails: errors.New("gone")}
		e := &Climber{Poller: w}
		begun := time.Now()
		assert.Empty(t, e.Await(begun.Add(never)))
		assert.True(t, e.Blind)
		assert.Zero(t, time.Since(begun))
		w.fails = nil
		e.Await(begun.Add(never))
		assert.Equal(t, blindStep, time.Since(begun))
		e.Await(time.Now().Add(blindStep / 2))
		assert.Equal(t, blindStep+blindStep/2, time.Since(begun))
		e.Await(Past)
		assert.Equal(t, blindStep+blindStep/2, time.Since(begun))
		assert.Equal(t, 1, w.waits, "it is not asked again")
		assert.False(t, e.WatchMembers([]*proctree.Member{{Process: proctree.Process{PID: 1}, FD: 1}}))
		assert.Zero(t, e.Watched())
	})
}

// members returns n of them, with their descriptors from 100 on.
func members(n int) (all []*proctree.Member) {
	for i := range n {
		all = append(all, &proctree.Member{Process: proctree.Process{PID: 1000 + i}, FD: 100 + i})
	}
	return all
}

func TestWatchMembers(t *testing.T) {
	w := &watch{tokens: map[int]int{}}
	e := &Climber{Poller: w}
	assert.True(t, e.WatchMembers(nil))
	few := members(2)
	assert.True(t, e.WatchMembers(few))
	assert.Equal(t, map[int]int{100: TokenMember + 1000, 101: TokenMember + 1001}, w.tokens)
	w.fails = errors.New("they are watched already")
	assert.True(t, e.WatchMembers(few))
	assert.False(t, e.WatchMembers(members(3)), "others with the same numbers, and one more")
	w.fails = nil

	e.UnwatchMember(members(1)[0])
	assert.Equal(t, 2, e.Watched(), "another with the same number")
	e.UnwatchMember(few[0])
	assert.Equal(t, map[int]int{101: TokenMember + 1001}, w.tokens)
	assert.Equal(t, 1, e.Watched())
	e.UnwatchMember(few[0])

	assert.False(t, e.WatchMembers([]*proctree.Member{{FD: -1}}), "there is nothing to watch it by")
	assert.Equal(t, 1, e.Watched())
}

// Of many the last are watched.
func TestWatchMany(t *testing.T) {
	w := &watch{tokens: map[int]int{}}
	e := &Climber{Poller: w}
	many := members(maxWatched + 1)
	assert.False(t, e.WatchMembers(many))
	assert.Equal(t, maxWatched, e.Watched())
	assert.NotContains(t, w.tokens, 100)
	assert.True(t, e.WatchMembers(many[1:]), "all of these are")
	e.UnwatchMember(many[5])
	assert.False(t, e.WatchMembers(many))
	assert.Contains(t, w.tokens, 105, "it was free again")
}

// Who was signaled is named by its first name, and once; the oldest come first, and who lives is not among them.
func TestKilled(t *testing.T) {
	var e Climber
	assert.False(t, e.Signaled())
	assert.Empty(t, e.Killed(nil))
	p := func(pid int, start uint64, name string) proctree.Process {
		return proctree.Process{PID: -pid, Start: start, Name: name} // no process has such a number
	}
	for _, each := range []proctree.Process{
		p(4, 30, "d"), p(3, 20, "c"), p(2, 20, "b"), p(1, 10, "a"), p(1, 40, "another"), p(1, 10, "later"),
	} {
		e.noteSignaled(&proctree.Member{Process: each})
	}
	assert.True(t, e.Signaled())
	assert.Equal(t, []proctree.Process{
		p(1, 10, "a"), p(3, 20, "c"), p(2, 20, "b"), p(4, 30, "d"), p(1, 40, "another"),
	}, e.Killed(nil))
	assert.Equal(t, []proctree.Process{p(2, 20, "b"), p(4, 30, "d"), p(1, 40, "another")},
		e.Killed(map[proctree.Process]bool{Identity(p(1, 10, "x")): true, Identity(p(3, 20, "")): true}))
}

// The rungs of KillTree fit in before the deadline, SIGKILL first.
func TestLadderFitsIn(t *testing.T) {
	rungs := Rungs{syscall.SIGTERM, 5 * time.Second, 2 * time.Second}
	for _, tt := range []struct{ deadline, grace, kill time.Duration }{
		{0, 5 * time.Second, 2 * time.Second},
		{time.Minute, 5 * time.Second, 2 * time.Second},
		{7 * time.Second, 5 * time.Second, 2 * time.Second},
		{6 * time.Second, 4 * time.Second, 2 * time.Second},
		{2 * time.Second, 0, 2 * time.Second},
		{time.Second, 0, time.Second},
		{-time.Second, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := &kill{ctx: t.Context()}
			if tt.deadline != 0 {
				ctx, cancel := context.WithTimeout(k.ctx, tt.deadline)
				defer cancel()
				k.ctx = ctx
			}
			ladder := k.ladder(rungs)
			for _, want := range []escalate.Rung{{Signal: syscall.SIGTERM, Wait: tt.grace}, {Signal: syscall.SIGKILL, Wait: tt.kill}} {
				rung, ok := ladder.Next(time.Now())
				require.True(t, ok)
				assert.Equal(t, want, rung, tt.deadline)
			}
			_, more := ladder.Next(time.Now())
			assert.False(t, more)
		})
	}
}

// KillTree is cut short by a cancellation alone: the ladder itself ends by the deadline.
func TestKillIsCutShort(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	late, end := context.WithTimeout(t.Context(), -1)
	defer end()
	assert.False(t, (&kill{ctx: ctx}).CutShort(syscall.SIGTERM))
	assert.False(t, (&kill{ctx: late}).CutShort(syscall.SIGTERM))
	cancel()
	assert.True(t, (&kill{ctx: ctx}).CutShort(syscall.SIGKILL))
}

func TestTimes(t *testing.T) {
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	var none time.Time
	for _, tt := range []struct{ x, y, earlier, later, sooner time.Time }{
		{a, b, a, b, a}, {b, a, a, b, a}, {none, a, none, a, a}, {a, none, none, a, a}, {none, none, none, none, none},
	} {
		assert.Equal(t, tt.earlier, Earlier(tt.x, tt.y))
		assert.Equal(t, tt.later, Later(tt.x, tt.y))
		assert.Equal(t, tt.sooner, Sooner(tt.x, tt.y))
	}
}

func TestSignalBit(t *testing.T) {
	for sig, bit := range map[syscall.Signal]uint64{-1: 0, 0: 0, 1: 1, 9: 0x100, 64: 1 << 63, 65: 0} {
		assert.Equal(t, bit, SignalBit(sig), int(sig))
	}
}

func TestIdentity(t *testing.T) {
	me := proctree.Inspect(os.Getpid())
	assert.Equal(t, me, Named(proctree.Process{PID: me.PID, Start: me.Start, Name: "before"}))
	other := proctree.Process{PID: me.PID, Start: me.Start + 1, Name: "another"}
	assert.Equal(t, other, Named(other), "the number is somebody else's by now")
}
