//go:build linux

package tree_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A start script as services have them: it starts a daemon, says so, and ends. The daemon has the
// script's standard output. os/exec waits for that daemon for ever.
func TestStartScriptThatLeavesADaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent")
	for _, daemon := range []struct{ name, program, start string }{
		{"sleep", "sleep", "sleep 600 &"},
		{"sleep under nohup", "nohup", "nohup sleep 600 2>&1 &"},
		{"saved copies of the pipe", "sleep", "sleep 600 12>&1 13>&2 >/dev/null 2>&1 &"},
		{"ssh-agent", "ssh-agent", "ssh-agent -D -a " + socket + " &"},
		{"python3", "python3", `python3 -c 'import signal; signal.pause()' &`},
		{"tail", "tail", "tail -f /dev/null &"},
	} {
		t.Run(daemon.name, func(t *testing.T) {
			testproc.HasProgram(t, daemon.program)
			cmd := exec.Command("sh", "-c", daemon.start+" echo start ok")
			canary := testproc.WithCanary(t, cmd)
			res, err := safeexec.Run(testproc.Deadline(t), cmd)
			require.NoError(t, err)
			canary.WaitGone(t)
			assert.Contains(t, res.Stdout.String(), "start ok")
			assert.Equal(t, safeexec.CauseExited, res.Cause)
			assert.NotEmpty(t, res.Killed)
		})
	}
}

// A daemon that left the session keeps the pipe, as mysqld_safe did in saved copies, 12 and 13. It is of
// the tree all the same.
func TestDaemonThatLeftTheSession(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	testproc.HasProgram(t, "bash")
	// The script ends once the daemon has said that it left.
	cmd := exec.Command("bash", "-c", `exec 12>&1 13>&2
		read said < <(setsid sh -c 'echo left; exec sleep 600 >/dev/null 2>&1')
		echo start ok`)
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	canary.WaitGone(t)
	assert.Equal(t, "start ok", res.Stdout.String())
	require.Len(t, res.Killed, 1)
	assert.Contains(t, []string{"sleep", "sh"}, res.Killed[0].Name, "it may not have come to its exec")
	assert.Empty(t, res.Holders)
}

func TestGit(t *testing.T) {
	t.Parallel()
	testproc.HasProgram(t, "git")
	ctx := testproc.Deadline(t)
	dir := t.TempDir()
	git := func(args ...string) *exec.Cmd {
		cmd := exec.Command("git", append([]string{"-c", "user.name=T", "-c", "user.email=t@example.org"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0")
		return cmd
	}
	_, err := safeexec.Run(ctx, git("init", "-q"))
	require.NoError(t, err)

	// A large input through fast-import, and all of it back through cat-file.
	content := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<18) // 4.25 MiB
	cmd := git("fast-import", "--quiet")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("commit refs/heads/main\ncommitter T <t@example.org> 0 +0000\n"+
		"data 1\nx\nM 100644 inline file\ndata %d\n%s\n", len(content), content))
	_, err = safeexec.Run(ctx, cmd)
	require.NoError(t, err)
	out, err := safeexec.Output(ctx, git("cat-file", "blob", "main:file"), safeexec.WithOutputLimit(int64(len(content))))
	require.NoError(t, err)
	assert.Equal(t, content, out)

	cut, err := safeexec.Output(ctx, git("cat-file", "blob", "main:file"))
	require.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.Len(t, cut, safeexec.DefaultOutputLimit)

	res, err := safeexec.Run(ctx, git("checkout", "no-such-branch"))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 1, res.ExitCode)
	assert.Contains(t, string(exit.Stderr), "no-such-branch")
}

func TestShells(t *testing.T) {
	t.Parallel()
	ctx := testproc.Deadline(t)
	for _, shell := range []string{"sh", "bash", "dash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			testproc.HasProgram(t, shell)
			res, err := safeexec.Run(ctx, exec.Command(shell, "-c", `echo out; echo err >&2; kill -9 $$`))
			require.Error(t, err)
			assert.Equal(t, "out", res.Stdout.String())
			assert.Equal(t, "err", res.Stderr.String())
			assert.Equal(t, 137, res.ShellCode())

			// A process substitution outlives the command it feeds by a moment.
			if shell == "bash" {
				res, err = safeexec.Run(ctx, exec.Command(shell, "-c", `echo through > >(cat)`))
				require.NoError(t, err)
				assert.Equal(t, "through", res.Stdout.String())
			}
		})
	}
}

func TestPython(t *testing.T) {
	t.Parallel()
	testproc.HasProgram(t, "python3")
	ctx := testproc.Deadline(t)
	cmd := exec.Command(testproc.HasProgram(t, "python3"), "-c", "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d[::-1]); sys.exit(len(d) & 0xff)")
	input := make([]byte, 3<<20+5)
	for i := range input {
		input[i] = byte(i * i >> 3)
	}
	cmd.Stdin = bytes.NewReader(input)
	res, err := safeexec.Run(ctx, cmd, safeexec.WithOutputLimit(4<<20))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 5, res.ExitCode)
	for i, j := 0, len(input)-1; i < j; i, j = i+1, j-1 {
		input[i], input[j] = input[j], input[i]
	}
	assert.True(t, bytes.Equal(input, res.Stdout.Bytes()))

	// A traceback, and a child that python itself started and waits for.
	res, err = safeexec.Run(ctx, exec.Command(testproc.HasProgram(t, "python3"), "-c", "import subprocess; subprocess.run(['sleep', '600'], timeout=0.2)"))
	require.ErrorAs(t, err, &exit)
	assert.Contains(t, res.Stderr.String(), "TimeoutExpired")
}

// A program that asks for a password finds no terminal, and fails instead of waiting.
func TestNoTerminalToAskOn(t *testing.T) {
	t.Parallel()
	res, err := safeexec.Run(context.Background(), exec.Command("sh", "-c", "read answer </dev/tty"), safeexec.WithTimeout(testrun.Unbounded))
	require.Error(t, err)
	assert.NotZero(t, res.ExitCode)
	assert.Contains(t, res.Stderr.String(), "/dev/tty")
}
