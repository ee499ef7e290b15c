//go:build linux

package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// kinds holds every sentinel with the older errors that it matches.
var kinds = []struct {
	err   error
	older []error
}{
	{safeexec.ErrNoTimeout, nil},
	{safeexec.ErrStarted, nil},
	{safeexec.ErrUnsupported, []error{errors.ErrUnsupported}},
	{safeexec.ErrTooManyLeft, nil},
	{safeexec.ErrNoProcess, []error{os.ErrProcessDone}},
	{safeexec.ErrProtected, nil},
	{safeexec.ErrNotFound, []error{exec.ErrNotFound}},
	{safeexec.ErrNotExecutable, nil},
	{safeexec.ErrBadDir, nil},
	{safeexec.ErrTimeout, []error{context.DeadlineExceeded}},
	{safeexec.ErrCanceled, []error{context.Canceled}},
	{safeexec.ErrIdle, []error{os.ErrDeadlineExceeded}},
	{safeexec.ErrOutputLimit, nil},
	{safeexec.ErrStopped, nil},
	{safeexec.ErrStartStalled, nil},
	{safeexec.ErrStatusUnknown, nil},
	{safeexec.ErrPipeHeld, []error{exec.ErrWaitDelay}},
	{safeexec.ErrWriterStuck, []error{exec.ErrWaitDelay}},
	{safeexec.ErrReaderStuck, []error{exec.ErrWaitDelay}},
	{safeexec.ErrWriterFailed, nil},
	{safeexec.ErrSurvivors, nil},
}

// TestErrorTable asserts that each sentinel matches itself, its older cousin, and nothing else.
func TestErrorTable(t *testing.T) {
	cousins := []error{errors.ErrUnsupported, exec.ErrNotFound, exec.ErrDot, exec.ErrWaitDelay,
		context.DeadlineExceeded, context.Canceled, os.ErrDeadlineExceeded, os.ErrProcessDone, os.ErrNotExist, os.ErrPermission}
	for _, kind := range kinds {
		for _, other := range kinds {
			same := kind.err == other.err //nolint:errorlint // the very value
			assert.Equal(t, same, errors.Is(kind.err, other.err), "%v, %v", kind.err, other.err)
		}
		for _, cousin := range cousins {
			want := false
			for _, older := range kind.older {
				want = want || older == cousin //nolint:errorlint // the very value
			}
			assert.Equal(t, want, errors.Is(kind.err, cousin), "%v, %v", kind.err, cousin)
		}
		assert.Contains(t, kind.err.Error(), "safeexec: ")
	}
}

// A failure is a run that fails in a certain way. The command can be given more arguments and
// variables, which it does not look at.
type failure struct {
	name string
	cmd  func(t *testing.T) *exec.Cmd
	opts []safeexec.Option
	is   []error
	exit bool // it is an *exec.ExitError as well
	// expires has the timeout come once the streams of the test's are in use.
	expires bool
}

// run runs the command.
func (f failure) run(t *testing.T, cmd *exec.Cmd) (safeexec.Result, error) {
	t.Helper()
	opts := append([]safeexec.Option{safeexec.WithTimeout(testrun.Bound)}, f.opts...)
	if !f.expires {
		return safeexec.Run(t.Context(), cmd, opts...)
	}
	streams := []any{cmd.Stdin, cmd.Stdout} // which the run replaces
	p, err := safeexec.Start(t.Context(), cmd, opts...)
	require.NoError(t, err)
	for _, s := range streams {
		if s, ok := s.(interface{ Entered() <-chan struct{} }); ok {
			<-s.Entered()
		}
	}
	require.NoError(t, p.SetTimeout(time.Millisecond))
	return p.Wait()
}

// A told Writer tells of its first call.
type told struct {
	once sync.Once
	came chan struct{}
}

func (w *told) Entered() <-chan struct{} { return w.came }

func (w *told) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.came) })
	return len(p), nil
}

func failures() []failure {
	shell := func(script string) func(*testing.T) *exec.Cmd { return command("sh", "-c", script, "sh") }
	with := func(make func(*testing.T) *exec.Cmd, change func(*testing.T, *exec.Cmd)) func(*testing.T) *exec.Cmd {
		return func(t *testing.T) *exec.Cmd {
			cmd := make(t)
			change(t, cmd)
			return cmd
		}
	}
	stuckWriter := func(t *testing.T, cmd *exec.Cmd) {
		w := testproc.NewStalledWriter()
		t.Cleanup(w.Release)
		cmd.Stdout = w
	}
	traps := func(status string) func(*testing.T) *exec.Cmd { // once it has told
		return with(shell("trap 'exit "+status+"' TERM; echo; while :; do sleep 0.01; done"), func(_ *testing.T, cmd *exec.Cmd) {
			cmd.Stdout = &told{came: make(chan struct{})}
		})
	}
	patient := []safeexec.Option{safeexec.WithGracePeriod(testrun.Unbounded)}
	stuckReader := func(t *testing.T, cmd *exec.Cmd) {
		r := testproc.NewStalledReader(nil)
		t.Cleanup(r.Release)
		cmd.Stdin = r
		opensOnce(t, cmd, r.Entered())
	}
	return []failure{
		{"exit", shell("exit 3"), nil, nil, true, false},
		{"not_found", command("/nonexistent/program"), nil, []error{safeexec.ErrNotFound}, false, false},
		{"name_not_found", command("no-such-program-of-safeexec"), nil, []error{safeexec.ErrNotFound}, false, false},
		{"not_executable", command("/"), nil, []error{safeexec.ErrNotExecutable}, false, false},
		{"bad_dir", inDir("/nonexistent"), nil, []error{safeexec.ErrBadDir}, false, false},
		{"config", command("true"), []safeexec.Option{safeexec.WithLinger(-1)}, nil, false, false},
		{"too_long", command("true", strings.Repeat("x", 200<<10)), nil, nil, false, false},
		{"nul", command("true", "\x00"), nil, nil, false, false},
		{"nul_in_variable", inEnv("A=\x00"), nil, nil, false, false},
		{"timeout", shell("echo; sleep 61"), nil, []error{safeexec.ErrTimeout, context.DeadlineExceeded}, true, true},
		{"timeout_and_exit", traps("5"), patient, []error{safeexec.ErrTimeout, context.DeadlineExceeded}, true, true},
		{"timeout_and_exit_0", traps("0"), patient, []error{safeexec.ErrTimeout}, false, true},
		{"idle", shell("sleep 61"), []safeexec.Option{safeexec.WithIdleTimeout(testrun.Soon)},
			[]error{safeexec.ErrIdle, os.ErrDeadlineExceeded}, true, false},
		{"output_limit", shell("yes"), []safeexec.Option{safeexec.WithOverflow(safeexec.OverflowStop)},
			[]error{safeexec.ErrOutputLimit}, true, false},
		{"writer_stuck", with(shell("echo; exit 3"), stuckWriter), []safeexec.Option{safeexec.WithDrainTimeout(testrun.Soon)},
			[]error{safeexec.ErrWriterStuck, exec.ErrWaitDelay}, true, false},
		{"reader_stuck", with(shell("cat <&3; exit 3"), stuckReader), []safeexec.Option{safeexec.WithDrainTimeout(testrun.Soon)},
			[]error{safeexec.ErrReaderStuck, exec.ErrWaitDelay}, true, false},
		{"everything", with(with(shell("echo; cat <&3; sleep 61"), stuckReader), stuckWriter),
			[]safeexec.Option{safeexec.WithDrainTimeout(testrun.Soon)},
			[]error{safeexec.ErrTimeout, context.DeadlineExceeded, safeexec.ErrWriterStuck, safeexec.ErrReaderStuck}, true, true},
		{"writer_fails", with(shell("echo; exit 3"), func(_ *testing.T, cmd *exec.Cmd) { cmd.Stdout = &refusingWriter{} }), nil,
			[]error{errRefused, safeexec.ErrWriterFailed}, true, false},
		{"reader_fails", with(shell("cat; exit 3"), func(_ *testing.T, cmd *exec.Cmd) { cmd.Stdin = errorReader{} }), nil,
			[]error{errReader}, true, false},
	}
}

// TestErrorsMatch asserts that of several facts each matches, and that none of the arguments and none
// of the environment is in the text.
func TestErrorsMatch(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, f := range failures() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			cmd := f.cmd(t)
			cmd.Args = append(cmd.Args, "--password="+secret, secret)
			cmd.Env = append(cmd.Environ(), "SECRET="+secret)
			if strings.Contains(strings.Join(f.cmd(t).Env, ""), "\x00") {
				cmd.Env = []string{"SECRET=" + secret + "\x00"} // Environ leaves out what has a NUL
			}
			res, err := f.run(t, cmd)
			require.Error(t, err)
			for _, is := range f.is {
				assert.ErrorIs(t, err, is)
			}
			var exit *exec.ExitError
			assert.Equal(t, f.exit, errors.As(err, &exit), "%v", err)
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%v", err), fmt.Sprintf("%s", err)} {
				assert.NotContains(t, text, secret)
				assert.NotContains(t, text, "\n")
			}
			assert.NotContains(t, fmt.Sprintf("%+v", res), secret)
			for _, kind := range kinds { // nothing matches that was not asked for
				wanted := false
				for _, is := range f.is {
					wanted = wanted || is == kind.err //nolint:errorlint // the very value
				}
				assert.Equal(t, wanted, errors.Is(err, kind.err), "%v: %v", err, kind.err)
			}
		})
	}
}

// TestErrorsOfManyFacts adds what comes from outside: a stranger that holds the pipe, Stop, and a
// cause of the context.
func TestErrorsOfManyFacts(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/fd/0"); err != nil {
		t.Skipf("needs /proc to hold a pipe: %v", err)
	}
	p, release := startHeld(t, "exit 3", safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Bound))
	defer release()
	res, err := p.Wait()
	assert.ErrorIs(t, err, safeexec.ErrPipeHeld)
	assert.ErrorIs(t, err, exec.ErrWaitDelay)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, exit.ExitCode())
	require.Len(t, res.Holders, 1)
	assert.Equal(t, os.Getpid(), res.Holders[0].PID)
	assert.NotEmpty(t, res.Holders[0].FDs)

	cause := errors.New("the test's reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	p, err = safeexec.Start(ctx, exec.Command("sleep", "61"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	cancel(cause)
	_, err = p.Wait()
	for _, is := range []error{safeexec.ErrCanceled, context.Canceled, cause} {
		assert.ErrorIs(t, err, is)
	}
	assert.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorAs(t, err, &exit)

	p, err = safeexec.Start(t.Context(), exec.Command("sleep", "61"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	_, err = p.Stop()
	assert.ErrorIs(t, err, safeexec.ErrStopped)
	assert.ErrorAs(t, err, &exit)
	assert.NotErrorIs(t, err, context.Canceled)
}

// TestErrorIsOneLine names programs and directories as an attacker would.
func TestErrorIsOneLine(t *testing.T) {
	t.Parallel()
	const hostile = "a\nFATAL: everything is lost\r\x1b[2J\u2028b"
	dir := t.TempDir()
	path := filepath.Join(dir, hostile)
	testproc.WriteExecutable(t, path, []byte("#!/bin/sh\nsleep 61\n"), 0o755)
	locked := filepath.Join(dir, "locked"+hostile)
	require.NoError(t, os.WriteFile(locked, nil, 0o644))
	inPath := exec.Command // which linters do not know
	for name, cmd := range map[string]*exec.Cmd{
		"runs":           exec.Command(path),
		"not_found":      exec.Command("/nonexistent/" + hostile),
		"name_not_found": inPath(hostile),
		"not_executable": exec.Command(locked),
		"dir":            {Path: "/bin/true", Dir: "/nonexistent/" + hostile},
		"nul":            exec.Command("/nonexistent/\x00" + hostile),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := safeexec.Run(t.Context(), cmd, safeexec.WithTimeout(testrun.Soon))
			require.Error(t, err)
			for _, bad := range []string{"\n", "\r", "\x1b", "\x00", "\u2028"} {
				assert.NotContains(t, err.Error(), bad)
			}
		})
	}
}

func TestErrorFields(t *testing.T) {
	t.Parallel()
	res, err := testrun.Expires(t, exec.Command("sleep", "61"))
	var failed *safeexec.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "run", failed.Op)
	assert.Equal(t, "sleep", failed.Program)
	assert.Equal(t, res.PID, failed.PID)
	causes := failed.Unwrap()
	require.NotEmpty(t, causes)
	assert.ErrorIs(t, causes[0], safeexec.ErrTimeout, "why it ended comes first")
	assert.IsType(t, (*exec.ExitError)(nil), causes[len(causes)-1], "then how")
}
