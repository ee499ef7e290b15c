package job

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// stormVariable has a host start, restart and stop jobs until it is killed, and say so before each.
// Its value is the tag of them all.
const stormVariable = "SAFEEXEC_TEST_JOB_STORM"

func storm(s *Store) {
	ctx := context.Background()
	cmd := func() *exec.Cmd { // one that writes much, and one that has left the session
		return exec.Command("sh", "-c", "setsid sleep 1000 & head -c 200000 /dev/zero; exec sleep 1001")
	}
	log := Log(MaxSize(logGrain), Keep(2))
	for i := 0; ; i++ {
		name := strconv.Itoa(i % 3)
		fmt.Println("start")
		opts := []Option{Name(name), Endless(), Grace(0), log, Ready(time.Minute, Uptime(time.Millisecond))}
		if os.Getenv(heldVariable) != "" {
			opts = append(opts, KeepStatus())
		}
		j, err := s.Start(ctx, cmd(), opts...)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		if i%2 == 0 {
			fmt.Println("restart")
			err = j.Restart(ctx)
		}
		if i%3 == 0 {
			fmt.Println("log")
			time.Sleep(2 * logPause) // in which the log is bounded
		}
		fmt.Println("stop")
		if _, e := j.Stop(ctx); err != nil || e != nil {
			fmt.Println("error", err, e)
			return
		}
	}
}

// tagged lists the living processes whose environment has the tag.
func tagged(t *testing.T, tag string) (pids []int) {
	t.Helper()
	all, err := procfs.PIDs()
	require.NoError(t, err)
	for _, pid := range all {
		value, found, err := procfs.ReadEnviron(pid, stormVariable)
		if err == nil && found == procfs.EnvironFound && value == tag && !testproc.Dead(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isCopy reports whether a process executes this program.
func isCopy(pid int) bool {
	own, err := os.Readlink("/proc/self/exe")
	other, e := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && e == nil && own == other
}

// TestKilledAtAnyMoment kills the program that works on its jobs. Another one must find each job in
// its record or find that there is none, and end all; no record may be torn.
func TestKilledAtAnyMoment(t *testing.T) { killedOften(t, 5) }

// TestHeldIsKilledAtAnyMoment does the same where a process holds the status of each job.
func TestHeldIsKilledAtAnyMoment(t *testing.T) { killedOften(t, 2, heldVariable+"=1") }

func killedOften(t *testing.T, rounds int, env ...string) {
	if testproc.Soaking() {
		rounds = max(rounds, 200)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(testproc.SeedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%s=%d", testproc.SeedVariable, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range rounds {
		steps, after := random.IntN(7), time.Duration(random.Int64N(int64(100*time.Millisecond)))
		t.Run(fmt.Sprint(round, steps, after), func(t *testing.T) { killedAfter(t, steps, after, env) })
	}
}

func killedAfter(t *testing.T, steps int, after time.Duration, env []string) {
	dir := t.TempDir()
	tag := filepath.Base(filepath.Dir(dir)) + strconv.FormatInt(time.Now().UnixNano(), 36)
	p := startHost(t, dir, append(env, stormVariable+"="+tag)...)
	during := "open"
	for range steps {
		during = p.line(t)
		require.NotContains(t, during, "error")
	}
	time.Sleep(after) // a moment, which decides nothing
	p.kill()

	s := open(t, dir)
	found, err := s.Adopt(deadline(t))
	require.NoError(t, err)
	alive := tagged(t, tag) // before the records are asked: what lives on was born before that
	known := make(map[int]bool)
	for _, a := range found {
		require.NoError(t, a.Err)
		require.Contains(t, []State{Running, Ended, Gone}, a.Status.State)
		if a.Status.State != Running {
			continue
		}
		r, err := read(a.Job.dir())
		require.NoError(t, err)
		members, err := census(r.Trace)
		require.NoError(t, err)
		for _, m := range members {
			known[m.PID] = true
		}
	}
	t.Logf("%s: %d records, %d processes", during, len(found), len(alive))
	for _, pid := range alive {
		assert.True(t, known[pid] || isCopy(pid) || testproc.Dead(pid), "%d belongs to no record", pid)
	}
	for _, a := range found {
		_, err := a.Job.Stop(deadline(t))
		require.NoError(t, err)
	}
	// What holds a status ends after its job, and what was to become one once it finds its program dead. One that has
	// just executed itself anew can escape a single list.
	testproc.Wait(t, func() bool { return len(tagged(t, tag)) == 0 })
	_, err = s.Clean(deadline(t))
	require.NoError(t, err)
	jobs, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, jobs)
}

// unstoppedVariable has a host do without the exec stop.
const unstoppedVariable = "SAFEEXEC_TEST_JOB_UNSTOPPED"

func TestStartsWithoutTheStop(t *testing.T) {
	dir := t.TempDir()
	p := startHost(t, dir, unstoppedVariable+"=1")
	fmt.Fprintln(p.in, "a (setsid env -i sleep 1000 &) ; exec sleep 1001")
	require.Equal(t, "started a", p.line(t))
	p.kill()
	s := open(t, dir)
	found := adoptOne(t, s)
	require.Equal(t, Running, found.Status.State)
	_, err := found.Job.Stop(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, Ended, status(t, found.Job).State)
}

// TestHalfStarted has only the intent of a start left, and what it started.
func TestHalfStarted(t *testing.T) {
	dir := t.TempDir()
	p := startHost(t, dir)
	fmt.Fprintln(p.in, "a exec sleep 1000")
	require.Equal(t, "started a", p.line(t))
	p.kill()
	r, err := read(filepath.Join(dir, "a"))
	require.NoError(t, err)
	leader := r.Trace
	r.Phase, r.Trace.PID, r.Trace.Limit, r.Trace.Outer = phaseStarting, 0, 0, 0
	require.NoError(t, r.write(filepath.Join(dir, "a")))

	s := open(t, dir)
	j, err := s.Find("a")
	require.NoError(t, err)
	assert.Equal(t, Half, status(t, j).State)
	_, err = s.Start(deadline(t), sh("true"), Name("a"), Endless())
	require.ErrorIs(t, err, ErrRunning)
	found := adoptOne(t, s)
	assert.True(t, found.Ended)
	assert.Equal(t, ByHalfStart, found.Status.Reason)
	assert.False(t, testproc.Lives(leader.PID, leader.Start))
}

// pidFileVariable has a host write the number of its jobs to that file.
const pidFileVariable = "SAFEEXEC_TEST_JOB_PIDFILE"

// TestDiesWithItsProgram has the program killed between the commit and the release: the file for
// the number is on a file system that does not answer. Nobody adopts the job.
func TestDiesWithItsProgram(t *testing.T) {
	dir, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	p := startHost(t, dir, pidFileVariable+"="+filepath.Join(testproc.HungMount(t), "pid"))
	fmt.Fprintln(p.in, "a touch "+ran+"; exec sleep 1000")
	var r *record
	testproc.Wait(t, func() bool {
		var err error
		r, err = read(filepath.Join(dir, "a"))
		return err == nil && r.Phase == phaseStarted
	})
	require.True(t, testproc.Lives(r.Trace.PID, r.Trace.Start), "it stands before its first instruction")
	p.kill()
	testproc.Wait(t, func() bool { return !testproc.Lives(r.Trace.PID, r.Trace.Start) })
	assert.NoFileExists(t, ran)
	j, err := open(t, dir).Find("a")
	require.NoError(t, err)
	assert.Equal(t, Gone, status(t, j).State)
}
