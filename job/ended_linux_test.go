package job

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// TestStopWithoutTheDisk has a record that cannot be written, as on a full disk: the job ends all the same, and the
// error says what is not written down.
func TestStopWithoutTheDisk(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("setsid sleep 1000 & exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	testproc.Wait(t, func() bool {
		u, err := j.Usage()
		return err == nil && u.Processes == 2
	})
	r, err := read(j.dir())
	require.NoError(t, err)
	blocked := filepath.Join(j.dir(), newRecord, "in the way")
	require.NoError(t, os.MkdirAll(blocked, 0o700))
	did, err := j.Stop(deadline(t))
	require.ErrorIs(t, err, os.ErrExist)
	assert.Len(t, did.Killed, 2)
	left, err := census(r.Trace)
	require.NoError(t, err)
	assert.Empty(t, left)
	require.NoError(t, os.RemoveAll(filepath.Dir(blocked)))
	_, err = j.Stop(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, Ended, status(t, j).State)
}

// TestTimeoutIsTriedAgain has a record that cannot be read when the timeout passes.
func TestTimeoutIsTriedAgain(t *testing.T) {
	s := open(t, t.TempDir())
	for timeout := 250 * time.Millisecond; ; timeout *= 2 {
		j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Timeout(timeout), Grace(time.Millisecond))
		require.NoError(t, err)
		k := j.keeper()
		record := filepath.Join(j.dir(), recordFile)
		require.NoError(t, os.Rename(record, record+".away"))
		err = <-k.late // tells it in any case
		require.NoError(t, os.Rename(record+".away", record))
		st, _ := j.Wait(deadline(t))
		assert.Equal(t, Ended, st.State)
		assert.Equal(t, ByTimeout, st.Reason)
		if err != nil {
			require.ErrorIs(t, err, ErrNoJob)
			return
		}
		// It had ended before the record was away: this machine is slow. Once more, with more time.
	}
}

// TestRecordOfAnotherStart has a job of the same name and count, whose record another program has made meanwhile.
func TestRecordOfAnotherStart(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	k := j.keeper()
	r, err := read(j.dir())
	require.NoError(t, err)
	mine := *r
	r.Trace.Environ = "another"
	require.NoError(t, r.write(j.dir()))
	k.record(func(r *record) { r.Text = "of the first" })
	did, err := j.end(deadline(t), deadline(t), ByTimeout, k.id(), rungs{grace: -1})
	require.NoError(t, err)
	assert.Empty(t, did.Killed)
	assert.True(t, testproc.Lives(mine.Trace.PID, mine.Trace.Start))
	r, err = read(j.dir())
	require.NoError(t, err)
	assert.Empty(t, r.Text)
	assert.Equal(t, phaseStarted, r.Phase)
	require.NoError(t, mine.write(j.dir()))
	_, err = j.Kill(deadline(t))
	require.NoError(t, err)
}

// TestFloodIsNotReady has a job that writes without an end: who reads its last lines must not follow it.
func TestFloodIsNotReady(t *testing.T) {
	s := open(t, t.TempDir())
	var j *Job
	var unready *ReadyError
	for within := 200 * time.Millisecond; ; within *= 2 {
		var err error
		j, err = s.Start(deadline(t), sh("yes | head -c 256M; exec sleep 1000"), Name("a"), Endless(), Grace(0), Log(MaxSize(logGrain), Keep(2)),
			Ready(within, LogLine(regexp.MustCompile("never"))), StopUnready())
		require.ErrorAs(t, err, &unready)
		assert.True(t, unready.Stopped)
		if len(unready.Last) > 0 || within > time.Minute { // or it had no time to write, on a busy machine
			break
		}
	}
	assert.NotEmpty(t, unready.Last)
	assert.Equal(t, Ended, status(t, j).State)
	for line, err := range j.Follow(canceled()) {
		t.Error("followed", line, err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestRestartIsCheckedFirst has options that refuse the start: nothing is stopped.
func TestRestartIsCheckedFirst(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	before := status(t, j)
	var refused *safeexec.ConfigError
	require.ErrorAs(t, j.Restart(deadline(t), Timeout(-1)), &refused)
	assert.Equal(t, before, status(t, j))
	_, err = j.Kill(deadline(t))
	require.NoError(t, err)
}

// TestLongestTimeout is beyond what a clock can count.
func TestLongestTimeout(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exit 3"), Name("a"), Timeout(math.MaxInt64))
	require.NoError(t, err)
	st, _ := j.Wait(deadline(t))
	assert.Equal(t, ByItself, st.Reason)
	assert.Equal(t, &Exit{Code: 3}, st.Exit)
}

// TestCleanLeavesTheLogOfOthers has a directory in the store that is no job.
func TestCleanLeavesTheLogOfOthers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	path := filepath.Join(dir, "web", logFile)
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("of others"), 0o600))
	cleaned, err := s.Clean(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, cleaned)
	assert.FileExists(t, path)
	require.NoError(t, os.Truncate(path, 0)) // as a start leaves it that was killed before its record
	_, err = s.Clean(deadline(t))
	require.NoError(t, err)
	assert.NoDirExists(t, filepath.Dir(path))
}

// TestStopDuringAStart has a start under way, which has the lock, and no number of a process in the record yet.
func TestStopDuringAStart(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	unlock, err := s.lock(deadline(t), "a")
	require.NoError(t, err)
	r, err := read(j.dir())
	require.NoError(t, err)
	started := *r
	started.Run, started.Trace.Environ = 2, "another" // not the start that is kept
	r.Run, r.Phase = 2, phaseStarting
	r.Trace = proctree.Trace{Start: started.Trace.Start, Environ: "another"}
	require.NoError(t, r.write(j.dir()))
	done := make(chan error)
	go func() {
		_, err := j.Stop(deadline(t))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatal("stopped nothing, and the start goes on: ", err)
	case <-time.After(50 * time.Millisecond): // it waits for the lock, or will
	}
	require.NoError(t, started.write(j.dir()))
	unlock()
	require.NoError(t, <-done)
	assert.False(t, testproc.Lives(started.Trace.PID, started.Trace.Start))
}
