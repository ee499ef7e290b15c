//go:build linux

package safeexec_test

import (
	"bytes"
	"errors"
	"io"
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
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// TestAlike runs the same commands with os/exec and with safeexec: what the command sees, and what
// it leaves, must be the same.
func TestAlike(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("/usr", link))
	script := filepath.Join(dir, "script")
	testproc.WriteExecutable(t, script, []byte("#!/bin/sh\nread -r line; echo \"$line\" \"$@\"; pwd\n"), 0o755)
	declared := filepath.Join(dir, "declared")
	require.NoError(t, os.WriteFile(declared, []byte("declared\n"), 0o644))

	sh := func(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }
	with := func(cmd *exec.Cmd, change func(*exec.Cmd)) *exec.Cmd {
		change(cmd)
		return cmd
	}
	for name, make := range map[string]func() *exec.Cmd{
		"exit_code":   func() *exec.Cmd { return sh("echo out; echo err >&2; exit 7") },
		"signal":      func() *exec.Cmd { return sh("kill -KILL $$") },
		"arguments":   func() *exec.Cmd { return testproc.Command("args", "", " ", "\n", "\xff", "a b") },
		"environment": func() *exec.Cmd { return exec.Command("env") },
		"env_twice": func() *exec.Cmd {
			return with(exec.Command("env"), func(c *exec.Cmd) { c.Env = []string{"A=1", "B=2", "A=3", "no equals sign", "=odd"} })
		},
		"env_empty": func() *exec.Cmd {
			return with(exec.Command("env"), func(c *exec.Cmd) { c.Env = []string{} })
		},
		"dir":      func() *exec.Cmd { return with(testproc.Command("cwd"), func(c *exec.Cmd) { c.Dir = "/usr" }) },
		"dir_link": func() *exec.Cmd { return with(testproc.Command("cwd"), func(c *exec.Cmd) { c.Dir = link }) },
		"dir_nil_env": func() *exec.Cmd {
			return with(sh("echo $PWD; pwd -P"), func(c *exec.Cmd) { c.Dir = link })
		},
		"dir_relative": func() *exec.Cmd {
			return with(sh("echo $PWD; pwd -P"), func(c *exec.Cmd) { c.Dir = "internal" })
		},
		"dir_and_PWD": func() *exec.Cmd {
			return with(sh("echo $PWD"), func(c *exec.Cmd) { c.Dir, c.Env = "/usr", []string{"PWD=/other"} })
		},
		"relative_path": func() *exec.Cmd {
			return with(exec.Command("./script", "x"), func(c *exec.Cmd) { c.Dir = dir })
		},
		"relative_path_bare": func() *exec.Cmd {
			return &exec.Cmd{Path: "script", Args: []string{"anything", "y"}, Dir: dir}
		},
		"no_arguments": func() *exec.Cmd {
			return &exec.Cmd{Path: script}
		},
		"other_name": func() *exec.Cmd {
			return with(sh("echo $0"), func(c *exec.Cmd) { c.Args[0] = "other" })
		},
		"stdin_nil": func() *exec.Cmd { return sh("cat; ls -l /proc/self/fd/0 | sed 's/.*->//'") },
		"stdin_bytes": func() *exec.Cmd {
			return with(sh("cat"), func(c *exec.Cmd) { c.Stdin = bytes.NewBufferString("in\n") })
		},
		"setpgid": func() *exec.Cmd {
			return with(sh("echo $(( $(ps -o pgid= -p $$) - $$ ))"), func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} })
		},
		"setsid": func() *exec.Cmd {
			return with(sh("echo $(( $(ps -o sid= -p $$) - $$ ))"), func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} })
		},
		"extra_files": func() *exec.Cmd {
			f, err := os.Open(declared)
			require.NoError(t, err)
			t.Cleanup(func() { f.Close() })
			return with(sh("cat <&4; cat <&3 2>&1 || echo closed"), func(c *exec.Cmd) { c.ExtraFiles = []*os.File{nil, f} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain, ours := make(), make()
			out, err := plain.Output()
			stderr := []byte{}
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				stderr = exit.Stderr
			}
			before := *ours
			var attr syscall.SysProcAttr
			if ours.SysProcAttr != nil {
				attr = *ours.SysProcAttr
			}
			res, err := testrun.Run(t, ours)
			var oursExit *exec.ExitError
			require.Equal(t, errors.As(err, &oursExit), exit != nil, "%v", err)
			if exit != nil {
				assert.Equal(t, string(stderr), string(oursExit.Stderr))
				assert.Equal(t, exit.Error(), oursExit.Error())
			} else {
				assert.NoError(t, err)
			}
			// The variable that marks the tree is the one difference.
			assert.Equal(t, string(out), markVariable.ReplaceAllString(string(res.Stdout.Bytes()), ""))
			assert.Equal(t, plain.ProcessState.ExitCode(), res.ExitCode)
			assert.Same(t, ours.ProcessState, res.State)
			assert.Equal(t, res.PID, ours.Process.Pid)
			assert.Equal(t, res.PID, ours.ProcessState.Pid())
			assertUnchanged(t, before, *ours)
			if ours.SysProcAttr != nil {
				assert.Equal(t, attr, *ours.SysProcAttr)
			}
		})
	}
}

var markVariable = regexp.MustCompile(`(?m)^SAFEEXEC_RUN=[0-9a-z/]+\n`)

// TestFieldsUnchanged sets every field that a caller may set.
func TestFieldsUnchanged(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	called := 0
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "cat; exit 4")
	cmd.Env, cmd.Dir = []string{"A=1", "A=2", "PATH=" + os.Getenv("PATH")}, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString("in"), new(bytes.Buffer), io.MultiWriter(io.Discard)
	cmd.ExtraFiles = []*os.File{null}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { called++; return nil }
	cmd.WaitDelay = time.Second
	before, attr := *cmd, *cmd.SysProcAttr
	_, err = testrun.Run(t, cmd)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assertUnchanged(t, before, *cmd)
	assert.Equal(t, attr, *cmd.SysProcAttr)
	assert.Equal(t, "in", cmd.Stdout.(*bytes.Buffer).String())
	assert.Zero(t, called)
	require.NoError(t, cmd.Cancel())
	assert.Equal(t, 1, called, "it is still the caller's")
}
