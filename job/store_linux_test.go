package job

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// TestRestartKeepsTheCommand has strings that JSON can not hold.
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
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\nexit 3\n"), 0o700))
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
