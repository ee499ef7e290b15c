package job

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// TestOpenRefuses has a directory that others may write to: what is in the records is executed.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err := Open(dir)
	assert.ErrorIs(t, err, ErrUnsafe)
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir())
	s.Close()
	j, err := s.Start(deadline(t), sh("true"), Name("a"), Endless())
	require.ErrorIs(t, err, ErrClosed)
	assert.Nil(t, j)
}

func TestForget(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	require.ErrorIs(t, j.Forget(deadline(t)), ErrRunning)
	_, err = j.Kill(deadline(t))
	require.NoError(t, err)
	r, err := read(j.dir())
	require.NoError(t, err)
	r.Phase, r.Namespace = phaseStarted, "pid:[1]"
	require.NoError(t, r.write(j.dir()))
	_, err = s.Start(deadline(t), sh("true"), Name("a"), Endless())
	require.ErrorIs(t, err, ErrRunning)
	cleaned, err := s.Clean(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, cleaned)
	require.NoError(t, j.Forget(deadline(t)))
	_, err = s.Find("a")
	assert.ErrorIs(t, err, ErrNoJob)
}

// TestRestartKeepsTheCommand has strings that JSON cannot hold.
func TestRestartKeepsTheCommand(t *testing.T) {
	s := open(t, t.TempDir())
	cmd := exec.Command("sh", "-c", `printf '%s %s\n' "$0" "$X"`, "\xff\xfe")
	cmd.Env = []string{"X=\xfd", "PATH=" + os.Getenv("PATH")}
	j, err := s.Start(deadline(t), cmd, Name("a"), Timeout(time.Hour))
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	require.NoError(t, j.Restart(deadline(t)))
	st, err := j.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, 2, st.Run)
	data, err := os.ReadFile(j.LogPath())
	require.NoError(t, err)
	assert.Equal(t, "\xff\xfe \xfd\n\xff\xfe \xfd\n", string(data))
	lines, err := j.Tail(9)
	require.NoError(t, err)
	assert.Len(t, lines, 1, "of this run")
}

// TestFailedRestart leaves the record as it was.
func TestFailedRestart(t *testing.T) {
	s := open(t, t.TempDir())
	program := filepath.Join(t.TempDir(), "program")
	testproc.WriteExecutable(t, program, []byte("#!/bin/sh\nexit 3\n"), 0o700)
	j, err := s.Start(deadline(t), exec.Command(program), Name("a"), Endless())
	require.NoError(t, err)
	_, _ = j.Wait(deadline(t))
	before := status(t, j)
	require.Equal(t, &Exit{Code: 3}, before.Exit)
	require.NoError(t, os.Remove(program))
	require.ErrorIs(t, j.Restart(deadline(t)), os.ErrNotExist)
	after := status(t, j)
	before.Kept, after.Kept = false, false
	assert.Equal(t, before, after)
}

// TestAdoptedExit has a job that a program adopts end: the status is known where the kernel tells
// it, and no other.
func TestAdoptedExit(t *testing.T) {
	dir := t.TempDir()
	first := startHost(t, dir)
	gate := filepath.Join(dir, "gate")
	require.NoError(t, exec.Command("mkfifo", gate).Run())
	_, err := first.in.WriteString("a read go < " + gate + "; exit 7\n")
	require.NoError(t, err)
	require.Equal(t, "started a", first.line(t))
	first.kill()
	s := open(t, dir)
	found := adoptOne(t, s)
	require.Equal(t, Running, found.Status.State)
	w, err := os.OpenFile(gate, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, _ = w.WriteString("go\n")
	w.Close()
	st, err := found.Job.Wait(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, Ended, st.State)
	if st.Exit != nil {
		assert.Equal(t, Exit{Code: 7}, *st.Exit)
	}
	t.Log(st)
}

// TestReplacedByAnother has another program stop and restart what this one keeps. How it ended is
// known there, and the new run is kept by that one.
func TestReplacedByAnother(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	_, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	j, err := other.Find("a")
	require.NoError(t, err)
	for run := 1; run <= 3; run++ {
		require.NoError(t, j.Restart(deadline(t)))
		require.NotNil(t, other.keepers["a"].lock)
		assert.True(t, status(t, j).Kept)
	}
	_, err = (&Job{s, "a"}).Stop(deadline(t))
	require.NoError(t, err)
	var st Status
	testproc.Wait(t, func() bool { // the program that keeps it may be late
		st = status(t, j)
		return st.Exit != nil
	})
	assert.Equal(t, 4, st.Run)
	assert.Equal(t, &Exit{Code: -1, Signal: syscall.SIGTERM}, st.Exit)
}

// TestForgottenKeeper has the end of a job be written down by nobody, since somebody has the lock of
// its record who waits for the keeper.
func TestForgottenKeeper(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	unlock, err := s.lock(deadline(t), "a")
	require.NoError(t, err)
	require.NoError(t, j.Signal(syscall.SIGKILL))
	<-j.keeper().gone
	j.forgetKeeper()
	unlock()
	assert.Equal(t, Gone, status(t, j).State)
	require.NoError(t, j.Restart(deadline(t)))
}

// TestCleanWithoutRecord has what a start leaves that is killed before its record.
func TestCleanWithoutRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", logFile), nil, 0o600))
	cleaned, err := s.Clean(deadline(t))
	require.NoError(t, err)
	assert.Empty(t, cleaned)
	assert.NoDirExists(t, filepath.Join(dir, "a"))
}

// TestPIDFileIsNoLink has a link lie where the file is written first: in a directory for temporary
// files anybody could make one.
func TestPIDFileIsNoLink(t *testing.T) {
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(precious, []byte("x"), 0o600))
	require.NoError(t, os.Symlink(precious, path+".7.new"))
	r := &record{Settings: settings{PIDFile: path}}
	r.Trace.PID = 7
	require.NoError(t, writePIDFile(r))
	data, err := os.ReadFile(precious)
	require.NoError(t, err)
	assert.Equal(t, "x", string(data))
	st, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), st.Mode())
}

func TestInputOfNobody(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless())
	require.NoError(t, err)
	_, err = j.Input(deadline(t), []byte("x"))
	require.ErrorIs(t, err, ErrNoInput)
	j, err = s.Start(deadline(t), sh("exit 0"), Name("b"), Endless(), Input())
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	_, err = j.Input(deadline(t), []byte("x"))
	require.ErrorIs(t, err, ErrEnded)
}

// TestUsage has two processes that use memory and time, while they live and afterwards.
func TestUsage(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh(`sleep 1000 & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up
		read go; kill $!; wait; exit 0`), Name("a"), Endless(), Input(),
		Ready(time.Minute, LogLine(regexp.MustCompile("up"))))
	require.NoError(t, err)
	used, err := j.Usage()
	require.NoError(t, err)
	assert.Equal(t, 2, used.Processes)
	assert.Positive(t, used.CPU)
	assert.Positive(t, used.Memory)
	assert.Zero(t, used.Peak)
	_, err = j.Input(deadline(t), []byte("go\n"))
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	after, err := j.Usage()
	require.NoError(t, err)
	assert.Zero(t, after.Processes)
	assert.GreaterOrEqual(t, after.CPU+10*time.Millisecond, used.CPU, "a tick more or less")
	assert.Zero(t, after.Peak, "a shell has less than this process, and that cannot be told")
}
