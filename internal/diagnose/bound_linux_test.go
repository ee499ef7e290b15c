package diagnose

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// bound is what a run waits for.
const bound = 50 * time.Millisecond

// startTree starts a session of n processes: a shell that waits for sleeping children, and one last
// child that is blocked on a pipe that stays empty.
func startTree(t testing.TB, n int) int {
	t.Helper()
	canary := testproc.NewCanary(t)
	script := fmt.Sprintf(`for i in $(seq %d); do sleep 600 & done; cat <&4 & echo ready; wait $!`, n-2)
	cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c", script)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	cmd.ExtraFiles = []*os.File{canary.File(), r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	r.Close()
	t.Cleanup(func() { // the unreaped leader pins the group's number
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		canary.WaitGone(t)
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd.Process.Pid
}

// take does what a run does.
func take(target Target, bound time.Duration) (s *Snapshot, took time.Duration) {
	begun := time.Now()
	done := make(chan struct{})
	q := Begin(target, bound, func() { close(done) })
	late := time.NewTimer(bound)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
	s = q.Finish()
	took = time.Since(begun)
	<-done
	return s, took
}

func TestBounds(t *testing.T) {
	for _, size := range []int{100, 500} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			pid := startTree(t, size)
			target := Target{PID: pid, Session: pid}
			ready := testproc.Deadline(t) // until all have execed
			var whole time.Duration       // what all of it takes on this machine
			for {
				s, took := take(target, time.Minute)
				whole = took
				if len(s.Processes) >= size && s.Omitted == 0 && len(s.Chain) >= 2 &&
					!slices.ContainsFunc(s.Processes[:size], func(p Process) bool { return len(p.Threads) != 1 || p.Threads[0].Call.Wait == WaitUnknown }) {
					break
				}
				require.NoError(t, ready.Err(), "%d processes, chain %v", len(s.Processes), s.Chain)
			}
			const rounds = 10
			var times []time.Duration
			complete, chains := 0, 0
			// A busy machine lets the timer, or this goroutine, come late: not every time.
			seen := func() bool { return (whole >= 4*bound || chains > 0) && (whole >= bound/2 || complete > 0) }
			for len(times) < rounds || !seen() {
				require.NoError(t, ready.Err(), "none of %d was complete, or had the chain", len(times))
				s, took := take(target, bound)
				times = append(times, took)
				if s == nil {
					continue
				}
				inTree := 0
				for _, p := range s.Processes {
					if p.Role <= Member {
						inTree++
					}
				}
				if s.Omitted == 0 {
					complete++
				} else {
					assert.Equal(t, size, inTree+s.Omitted, "what was left out is counted")
				}
				if len(s.Chain) >= 2 && s.Processes[0].PID == pid && s.Found {
					chains++
				}
			}
			slices.Sort(times)
			t.Logf("%d processes, %v for all: p50 %v, longest %v; complete %d, chain to its end %d of %d",
				size, whole, times[len(times)/2], times[len(times)-1], complete, chains, len(times))
			if whole > 4*bound {
				assert.Less(t, times[0], whole)
			}
		})
	}
}

// A caller that is late takes what there is, and the goroutine ends.
func TestFinishEarly(t *testing.T) {
	const size = 20
	pid := startTree(t, size)
	var s *Snapshot
	testproc.Wait(t, func() bool { // until it is not held up, as on a busy machine, before it takes what there is
		done := make(chan struct{})
		q := Begin(Target{PID: pid, Session: pid}, time.Minute, func() { close(done) })
		q.Finish()
		<-done
		assert.True(t, q.Done())
		s = q.Finish()
		require.NotNil(t, s)
		return s.Omitted > 0
	})
	assert.Equal(t, pid, s.Processes[0].PID, "the root comes first whatever happens")
	inTree := 0
	for _, p := range s.Processes {
		if p.Role <= Member {
			inTree++
		}
	}
	assert.Equal(t, size, inTree+s.Omitted, "what was left out is counted")
}

// Where others search for all the time there is, the report says what is known of the tree, and that it is partial.
func TestManySearchAtOnce(t *testing.T) {
	const size = 3
	pid := startTree(t, size)
	target := Target{PID: pid, Session: pid, Pipes: []uint64{1}}
	for range cap(searches) {
		searches <- struct{}{}
	}
	var s *Snapshot
	for bound := 10 * bound; s == nil || len(s.Processes) < size; bound *= 2 { // until the machine has the time for the tree
		require.Less(t, bound, time.Minute)
		s, _ = take(target, bound)
	}
	use := Pipe(1, func() bool { return false }) // a single question does not wait
	for range cap(searches) {
		<-searches
	}
	require.NotNil(t, s)
	assert.Equal(t, pid, s.Processes[0].PID)
	assert.GreaterOrEqual(t, len(s.Processes), size)
	assert.Zero(t, s.Omitted)
	assert.True(t, s.Partial)
	assert.Empty(t, use.Writers)

	s, _ = take(target, time.Minute)
	require.NotNil(t, s)
	assert.False(t, s.Partial)
	assert.Empty(t, searches, "the turn is given back")
}

// The descriptors of a tree that waits for no pipe are left out, unless a process outside that holds the run's pipe
// turns out to wait for one of the tree.
func TestHolderWaitsForTheTree(t *testing.T) {
	testproc.NoLeaks(t)
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	start := func(cmd *exec.Cmd, fds ...*os.File) int {
		cmd.ExtraFiles = fds
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	asked, answer := pipe()
	output, outputs := pipe()
	root := start(exec.Command("sleep", "600"), answer, outputs)
	holder := start(exec.Command("sh", "-c", "exec cat <&3 >&4"), asked, outputs)
	require.NoError(t, answer.Close())
	require.NoError(t, outputs.Close())
	testproc.WaitState(t, root, "S")
	testproc.WaitComm(t, holder, "cat")
	testproc.WaitState(t, holder, "S")
	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(int(output.Fd()), &st))

	for name, passed := range map[string]time.Duration{"at once": 0, "most of the time has passed": 40 * time.Second} {
		now := time.Now()
		c := newCollector(Target{PID: root, Whole: true, Pipes: []uint64{st.Ino}}, now.Add(-passed), now.Add(time.Minute-passed))
		var s *Snapshot
		c.quit, c.publish = func() bool { return false }, func(news *Snapshot) { s = news }
		c.run()
		require.Len(t, s.Processes, 2, name)
		assert.Equal(t, root, s.Processes[0].PID)
		assert.Empty(t, s.Processes[0].PipeFDs)
		p := s.Processes[1]
		assert.Equal(t, holder, p.PID)
		assert.Equal(t, Holder, p.Role)
		assert.Equal(t, []int{1, 4}, p.PipeFDs)
		require.Len(t, p.Threads[0].Call.FDs, 1)
		assert.Equal(t, []End{{PID: root, FD: 3, Name: "sleep"}}, p.Threads[0].Call.FDs[0].Ends, name)
		assert.True(t, p.Threads[0].Call.FDs[0].EndsKnown)
		assert.False(t, s.Partial)
	}
}
