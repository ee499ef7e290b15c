package diagnose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// waiting makes a process with one thread that waits for the end of others; without others, it sleeps.
func waiting(pid int, name string, others ...int) Process {
	call := Call{Name: "clock_nanosleep", Wait: WaitTime, Left: time.Minute}
	if len(others) > 0 {
		call = Call{Name: "wait4", Wait: WaitChild, Children: others, Left: -1}
	}
	return Process{
		PID: pid, Name: name, State: 'S', ThreadCount: 1, Role: Member,
		Threads: []Thread{{TID: pid, State: 'S', Idle: -1, Call: call}},
	}
}

func chainOf(processes ...Process) *Snapshot {
	processes[0].Role = Root
	s := &Snapshot{Processes: processes}
	follow(s)
	return s
}

func TestChain(t *testing.T) {
	t.Parallel()
	s := chainOf(waiting(101, "a", 102), waiting(102, "b", 103), waiting(103, "c"))
	assert.Equal(t, "101 a is blocked in wait4(102); 102 b is blocked in wait4(103); 103 c is blocked in clock_nanosleep(), 1m0s left", s.Verdict)
	assert.True(t, s.Found)
	assert.False(t, s.Deadlock)

	s = chainOf(waiting(101, "a", 102), waiting(102, "b", 101))
	assert.Equal(t, "deadlock: 101 a is blocked in wait4(102); 102 b is blocked in wait4(101)", s.Verdict)
	assert.True(t, s.Deadlock)

	s = chainOf(waiting(101, "a", 102), waiting(102, "b", 101, 103), waiting(103, "c"))
	assert.False(t, s.Deadlock, "c can let b go on")
	assert.Contains(t, s.Verdict, "103 c")

	s = chainOf(waiting(101, "a", 102), waiting(102, "b", 102))
	assert.True(t, s.Deadlock, "b waits for itself")
	assert.Len(t, s.Chain, 2)

	s = chainOf(waiting(101, "a", 102))
	assert.False(t, s.Deadlock, "who was not looked at may do anything")
	assert.True(t, s.Found)

	dead := waiting(102, "b")
	dead.State, dead.Threads, dead.ThreadCount = 'Z', nil, 1
	dead.PPID = 101
	s = chainOf(waiting(101, "a", 102), dead)
	assert.False(t, s.Deadlock, "a zombie lets its parent go on")
}

// A thread that was not looked at may do anything.
func TestUnknownThreadsAreFree(t *testing.T) {
	t.Parallel()
	other := waiting(102, "b", 101)
	other.ThreadCount = 2
	assert.False(t, chainOf(waiting(101, "a", 102), other).Deadlock)
	free := waiting(103, "c").Threads[0]
	other.Threads = append(other.Threads, free)
	assert.False(t, chainOf(waiting(101, "a", 102), other).Deadlock)
	other.Threads[1] = waiting(102, "b", 101).Threads[0]
	other.Threads[1].TID = 104
	assert.True(t, chainOf(waiting(101, "a", 102), other).Deadlock)
}

// Timeouts, signals and unread data end a wait.
func TestWaysOut(t *testing.T) {
	t.Parallel()
	pipe := func(filled int, known bool, left time.Duration) Process {
		p := waiting(102, "b", 101)
		p.Threads[0].Call = Call{Name: "read", Wait: WaitRead, Left: left, FDs: []Descriptor{{
			FD: 3, Kind: "pipe", Reading: true, Filled: filled, Size: 65536, EndsKnown: known, Ends: []End{{PID: 101, FD: 4, Name: "a"}},
		}}}
		return p
	}
	assert.True(t, chainOf(waiting(101, "a", 102), pipe(0, true, -1)).Deadlock)
	assert.False(t, chainOf(waiting(101, "a", 102), pipe(1, true, -1)).Deadlock, "there is something to read")
	assert.False(t, chainOf(waiting(101, "a", 102), pipe(0, false, -1)).Deadlock, "there may be another writer")
	assert.False(t, chainOf(waiting(101, "a", 102), pipe(0, true, time.Second)).Deadlock, "it times out")
	p := pipe(0, true, -1)
	p.State, p.Threads[0].State = 'T', 'T'
	s := chainOf(waiting(101, "a", 102), p)
	assert.False(t, s.Deadlock)
	assert.Contains(t, s.Verdict, "102 b is stopped")
}

// The one that says most stands for a process.
func TestBestThread(t *testing.T) {
	t.Parallel()
	p := waiting(101, "a")
	p.Threads[0].Call = Call{Name: "futex", Wait: WaitFutex, Left: -1}
	p.ThreadCount = 2
	p.Threads = append(p.Threads, Thread{TID: 102, State: 'S', Idle: 2 * time.Hour, Call: Call{
		Name: "write", Wait: WaitWrite, Left: -1, FDs: []Descriptor{{FD: 2, Kind: "pipe", Filled: 65536, Size: 65536, EndsKnown: true}},
	}})
	s := chainOf(p)
	assert.Equal(t, "101 a thread 102 is blocked in write(2 → pipe, 65536 of 65536 bytes, no reader), for 2h0m", s.Verdict)
	p.Threads = p.Threads[:1]
	s = chainOf(p)
	assert.Equal(t, "101 a is blocked in futex()", s.Verdict)
	assert.False(t, s.Found, "which of its threads it waits for is not known")
}

// Names are the processes' to choose.
func TestVerdictIsOneLine(t *testing.T) {
	t.Parallel()
	s := chainOf(waiting(101, "a\nb\x1b[31m\xff", 102), waiting(102, ""))
	assert.NotContains(t, s.Verdict, "\n")
	assert.NotContains(t, s.Verdict, "\x1b")
	assert.Contains(t, s.Verdict, "101 a?b?[31m?")
}

// FuzzDeadlock compares with the plain definition: a process is in a deadlock if all that it waits for,
// directly or not, do nothing but wait.
func FuzzDeadlock(f *testing.F) {
	f.Add([]byte{3, 1, 1, 1, 2, 0})
	f.Add([]byte{2, 1, 1, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b)
		}
		const first = 1000
		n := next()%8 + 1
		waits := make([][]int, n)
		processes := make([]Process, n)
		for i := range processes {
			var others []int
			for range next() % 4 {
				to := next() % n
				waits[i] = append(waits[i], to)
				others = append(others, first+to)
			}
			processes[i] = waiting(first+i, fmt.Sprint("p", i), others...)
		}
		s := chainOf(processes...)
		reached := map[int]bool{}
		moves := false
		var visit func(i int)
		visit = func(i int) {
			if reached[i] {
				return
			}
			reached[i] = true
			moves = moves || len(waits[i]) == 0
			for _, to := range waits[i] {
				visit(to)
			}
		}
		visit(0)
		// A chain may lead from a process that can go on, to some that cannot.
		if !moves && !s.Deadlock {
			t.Errorf("%v: a deadlock is missed: %s", waits, s.Verdict)
		}
		if s.Deadlock != strings.HasPrefix(s.Verdict, "deadlock: ") {
			t.Errorf("%v: %s", waits, s.Verdict)
		}
		if s.Deadlock {
			last := s.Chain[len(s.Chain)-1].PID - first
			reached, moves = map[int]bool{}, false
			visit(last)
			if moves {
				t.Errorf("%v: %d can go on: %s", waits, last, s.Verdict)
			}
		}
		if len(s.Chain) == 0 || len(s.Chain) > n {
			t.Errorf("%v: a chain of %d", waits, len(s.Chain))
		}
	})
}
