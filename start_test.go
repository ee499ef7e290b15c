//go:build linux

package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func argumentError(env bool, index int, kernel error) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var found *safeexec.ArgumentError
		if assert.ErrorAs(t, err, &found) {
			assert.Equal(t, env, found.Env)
			assert.Equal(t, index, found.Index)
			assert.Positive(t, found.Size)
			assert.GreaterOrEqual(t, found.Total, found.Size)
		}
		assert.ErrorIs(t, err, kernel)
	}
}

func all(targets ...error) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		for _, target := range targets {
			assert.ErrorIs(t, err, target)
		}
	}
}

// TestStartFails starts what cannot be started: the error says why, nothing runs, and nothing is
// left open, not even what StdinPipe and StdoutPipe had opened.
func TestStartFails(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	var many []string
	for range 70 {
		many = append(many, strings.Repeat("y", 100<<10))
	}
	noSearch := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.Mkdir(noSearch, 0))
	file := testproc.WriteProgram(t, 0o644, "#!/bin/sh\n")

	for _, test := range []struct {
		name  string
		make  func(t *testing.T) *exec.Cmd
		check func(*testing.T, error)
		shell int
	}{
		{"name_not_found", command("no-such-program-of-safeexec"), all(safeexec.ErrNotFound, exec.ErrNotFound), 127},
		{"path_not_found", command("/nonexistent/program"), all(safeexec.ErrNotFound, fs.ErrNotExist), 127},
		{"relative_not_found", command("./nonexistent"), all(safeexec.ErrNotFound, fs.ErrNotExist), 127},
		{"interpreter_not_found", program(0o755, "#!/nonexistent/interpreter\n"), all(safeexec.ErrNotFound, fs.ErrNotExist), 127},
		{"not_executable", command(file), all(safeexec.ErrNotExecutable, fs.ErrPermission), 126},
		{"not_a_program", program(0o755, "no program\n"), all(safeexec.ErrNotExecutable, syscall.ENOEXEC), 126},
		{"directory_as_program", command("/usr/bin"), all(safeexec.ErrNotExecutable, fs.ErrPermission), 126},
		{"root_as_program", command("/"), all(safeexec.ErrNotExecutable, syscall.EISDIR), 126},
		{"below_a_file", command("/dev/null/program"), all(safeexec.ErrNotExecutable, syscall.ENOTDIR), 126},
		{"found_in_the_current_directory", func(*testing.T) *exec.Cmd {
			return &exec.Cmd{Path: "program", Err: &exec.Error{Name: "program", Err: exec.ErrDot}}
		}, all(safeexec.ErrNotExecutable, exec.ErrDot), 126},
		{"no_command", func(*testing.T) *exec.Cmd { return &exec.Cmd{} }, all(safeexec.ErrNotFound), 127},
		{"dir_not_found", inDir("/nonexistent"), all(safeexec.ErrBadDir, fs.ErrNotExist), -1},
		{"dir_is_a_file", inDir(file), all(safeexec.ErrBadDir, syscall.ENOTDIR), -1},
		{"dir_without_search_permission", func(t *testing.T) *exec.Cmd {
			if !testproc.Unprivileged() {
				t.Skip("needs an ordinary user: root may search every directory")
			}
			return inDir(noSearch)(t)
		}, all(safeexec.ErrBadDir, fs.ErrPermission), -1},
		{"argument_too_long", command("true", "a", long), argumentError(false, 2, syscall.E2BIG), 126},
		{"arguments_too_long", command("true", many...), argumentError(false, 1, syscall.E2BIG), 126},
		{"variable_too_long", inEnv("A=b", "LONG="+long), argumentError(true, 1, syscall.E2BIG), 126},
		{"nul_in_argument", command("true", "a", "b\x00c"), argumentError(false, 2, syscall.EINVAL), -1},
		{"nul_in_variable", inEnv("A=b", "B=c\x00d"), argumentError(true, 1, syscall.EINVAL), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := test.make(t)
			res, err := failingStart(t, cmd)
			test.check(t, err)
			assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
			assert.Equal(t, test.shell, res.ShellCode())
		})
	}
}

func command(name string, args ...string) func(*testing.T) *exec.Cmd {
	return func(*testing.T) *exec.Cmd { return exec.Command(name, args...) }
}

func program(mode fs.FileMode, text string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd { return exec.Command(testproc.WriteProgram(t, mode, text)) }
}

func inDir(dir string) func(*testing.T) *exec.Cmd {
	return func(*testing.T) *exec.Cmd {
		cmd := exec.Command("true")
		cmd.Dir = dir
		return cmd
	}
}

func inEnv(env ...string) func(*testing.T) *exec.Cmd {
	return func(*testing.T) *exec.Cmd {
		cmd := exec.Command("true")
		cmd.Env = env
		return cmd
	}
}

// failingStart runs a command that must not start, and asserts that it left nothing.
func failingStart(t *testing.T, cmd *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	t.Helper()
	return failingStartIn(t, t.Context(), cmd, opts...)
}

func failingStartIn(t *testing.T, ctx context.Context, cmd *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	t.Helper()
	testproc.NoLeaks(t)
	canary := testproc.WithCanary(t, cmd)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	before := *cmd
	res, err := safeexec.Run(ctx, cmd, append([]safeexec.Option{safeexec.WithTimeout(testrun.Bound)}, opts...)...)
	require.Error(t, err)
	var wrapped *safeexec.Error
	require.ErrorAs(t, err, &wrapped)
	assert.Equal(t, "start", wrapped.Op)
	assert.Zero(t, wrapped.PID)
	assert.Zero(t, res.PID)
	assert.Equal(t, -1, res.ExitCode)
	assert.Nil(t, res.State)
	assert.Nil(t, cmd.Process)
	assert.Nil(t, cmd.ProcessState)
	assertUnchanged(t, before, *cmd)
	canary.WaitGone(t)

	var config *safeexec.ConfigError
	if !errors.As(err, &config) { // a mistake can be corrected, and the command tried again
		_, err := stdin.Write([]byte("x"))
		assert.ErrorIs(t, err, os.ErrClosed)
		assert.ErrorIs(t, stdout.Close(), os.ErrClosed) // not Read, which would block
	}
	for _, c := range []io.Closer{stdin, stdout, asCloser(cmd.Stdin), asCloser(cmd.Stdout)} {
		c.Close()
	}
	return res, err
}

func asCloser(stream any) io.Closer { return stream.(io.Closer) }

// assertUnchanged compares the fields of a command that are the caller's, all but the functions.
func assertUnchanged(t *testing.T, before, after exec.Cmd) {
	t.Helper()
	assert.Equal(t, before.Path, after.Path)
	assert.Equal(t, before.Args, after.Args)
	assert.Equal(t, before.Env, after.Env)
	assert.Equal(t, before.Dir, after.Dir)
	assert.Same(t, orNil(before.Stdin), orNil(after.Stdin))
	assert.Same(t, orNil(before.Stdout), orNil(after.Stdout))
	assert.Same(t, orNil(before.Stderr), orNil(after.Stderr))
	assert.Equal(t, before.ExtraFiles, after.ExtraFiles)
	assert.Same(t, before.SysProcAttr, after.SysProcAttr)
	assert.Equal(t, before.Err, after.Err)
	assert.Equal(t, before.WaitDelay, after.WaitDelay)
	assert.Equal(t, before.Cancel == nil, after.Cancel == nil)
}

// orNil returns a pointer in any case, which assert.Same insists on.
func orNil(stream any) any {
	if stream == nil {
		return (*int)(nil)
	}
	return stream
}

// TestStartRefused starts what is refused before anything is tried.
func TestStartRefused(t *testing.T) {
	cause := errors.New("the test's reason")
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	expired, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	attr := func(attr syscall.SysProcAttr) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd {
			cmd := exec.Command("true")
			cmd.SysProcAttr = &attr
			return cmd
		}
	}
	under := func(ctx context.Context) func(*testing.T) *exec.Cmd {
		return func(*testing.T) *exec.Cmd { return exec.CommandContext(ctx, "true") }
	}
	config := func(name string) func(*testing.T, error) {
		return func(t *testing.T, err error) {
			var found *safeexec.ConfigError
			if assert.ErrorAs(t, err, &found) {
				assert.Equal(t, name, found.Name)
			}
		}
	}
	for _, test := range []struct {
		name  string
		ctx   context.Context
		make  func(t *testing.T) *exec.Cmd
		check func(*testing.T, error)
		cause safeexec.Cause
	}{
		{"canceled", canceled, command("true"), all(safeexec.ErrCanceled, context.Canceled, cause), safeexec.CauseCanceled},
		{"expired", expired, command("true"), all(safeexec.ErrTimeout, context.DeadlineExceeded), safeexec.CauseTimeout},
		{"command_canceled", t.Context(), under(canceled), all(safeexec.ErrCanceled, context.Canceled), safeexec.CauseCanceled},
		{"command_expired", t.Context(), under(expired), all(safeexec.ErrTimeout, context.DeadlineExceeded), safeexec.CauseTimeout},
		{"Pgid", t.Context(), attr(syscall.SysProcAttr{Setpgid: true, Pgid: 1}), config("SysProcAttr"), safeexec.CauseStartFailed},
		{"Foreground", t.Context(), attr(syscall.SysProcAttr{Foreground: true}), config("SysProcAttr"), safeexec.CauseStartFailed},
		{"Ptrace", t.Context(), attr(syscall.SysProcAttr{Ptrace: true}), config("SysProcAttr"), safeexec.CauseStartFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			res, err := failingStartIn(t, test.ctx, test.make(t))
			test.check(t, err)
			assert.Equal(t, test.cause, res.Cause)
		})
	}
}

func TestStartNil(t *testing.T) {
	for name, start := range map[string]func() error{
		"ctx": func() error {
			var none context.Context
			_, err := safeexec.Run(none, exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
			return err
		},
		"cmd": func() error {
			_, err := safeexec.Run(t.Context(), nil, safeexec.WithTimeout(testrun.Bound))
			return err
		},
		"Output": func() error {
			_, err := safeexec.Output(t.Context(), nil, safeexec.WithTimeout(testrun.Bound))
			return err
		},
		"CombinedOutput": func() error {
			_, err := safeexec.CombinedOutput(t.Context(), nil, safeexec.WithTimeout(testrun.Bound))
			return err
		},
		"Start": func() error {
			p, err := safeexec.Start(t.Context(), nil, safeexec.WithTimeout(testrun.Bound))
			assert.Nil(t, p)
			return err
		},
	} {
		var config *safeexec.ConfigError
		if assert.ErrorAs(t, start(), &config, name) && name != "ctx" {
			assert.Equal(t, "cmd", config.Name)
		}
	}
}

func TestStartTwice(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read -r line; exit 3")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = testrun.Run(t, cmd)
	assert.ErrorIs(t, err, safeexec.ErrStarted, "running")
	require.NoError(t, stdin.Close(), "its pipe is left alone")
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	assert.Equal(t, 3, exit.ExitCode(), "and so is itself")
	_, err = testrun.Run(t, cmd)
	assert.ErrorIs(t, err, safeexec.ErrStarted, "finished")

	cmd = exec.Command("true")
	_, err = testrun.Run(t, cmd)
	require.NoError(t, err)
	_, err = testrun.Run(t, cmd)
	assert.ErrorIs(t, err, safeexec.ErrStarted, "run by safeexec")

	cmd = exec.Command("/nonexistent/program")
	require.Error(t, cmd.Start())
	_, err = testrun.Run(t, cmd)
	assert.ErrorIs(t, err, safeexec.ErrStarted, "its start by os/exec failed, and os/exec takes no second one")
}

func TestStdoutIsSet(t *testing.T) {
	for name, set := range map[string]func(*exec.Cmd){
		"Stdout": func(cmd *exec.Cmd) { cmd.Stdout = io.Discard },
		"Stderr": func(cmd *exec.Cmd) { cmd.Stderr = io.Discard },
	} {
		cmd := exec.Command("true")
		canary := testproc.WithCanary(t, cmd)
		set(cmd)
		_, err := safeexec.CombinedOutput(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
		var config *safeexec.ConfigError
		require.ErrorAs(t, err, &config)
		assert.Equal(t, name, config.Name)
		if name == "Stdout" {
			_, err = safeexec.Output(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
			require.ErrorAs(t, err, &config)
			assert.Equal(t, name, config.Name)
		}
		assert.Nil(t, cmd.Process)
		canary.WaitGone(t)
	}
}

// A thread that a goroutine is locked to passes on what it has, as with os/exec, however many runs there are.
func TestThreadOfTheCaller(t *testing.T) {
	var others [200]proctree.Mark
	for _, many := range []bool{false, true} {
		if many {
			for i := range others {
				others[i].Begin()
				defer others[i].End()
			}
		}
		var outcome string
		testproc.OwnThread(func() {
			before, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
			if err == nil { // the system call counts from 40 downward
				err = syscall.Setpriority(syscall.PRIO_PROCESS, 0, min(20-before+3, 19))
			}
			if err != nil {
				outcome = err.Error()
				return
			}
			res, err := safeexec.Run(testproc.Deadline(t), exec.Command("nice"))
			std, stdErr := exec.Command("nice").Output()
			outcome = fmt.Sprint(errors.Join(err, stdErr), res.Stdout.String() == strings.TrimSpace(string(std)), " ", before != 20 || res.Stdout.String() == "3")
		})
		assert.Equal(t, "<nil> true true", outcome)
	}
}
