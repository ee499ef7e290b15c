package terminal_test

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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["pty-elsewhere"] = ptyElsewhere
}

func TestPTYRefused(t *testing.T) {
	testproc.NoLeaks(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	require.NoError(t, err)
	defer null.Close()
	pipe := func(open func(*exec.Cmd) (io.Closer, error)) *exec.Cmd {
		cmd := exec.Command("true")
		_, err := open(cmd)
		require.NoError(t, err)
		return cmd
	}
	for name, test := range map[string]struct {
		cmd *exec.Cmd
		opt safeexec.Option
	}{
		"no rows":    {exec.Command("true"), safeexec.WithPTY(0, 80)},
		"too wide":   {exec.Command("true"), safeexec.WithPTY(24, 1<<16)},
		"terminal":   {exec.Command("true"), safeexec.WithTerminal()},
		"left":       {exec.Command("true"), safeexec.WithBackground(safeexec.BackgroundLeave)},
		"file":       {&exec.Cmd{Path: "/bin/true", Stdout: null}, nil},
		"control":    {&exec.Cmd{Path: "/bin/true", SysProcAttr: &syscall.SysProcAttr{Setctty: true}}, nil},
		"stderr tee": {exec.Command("true"), safeexec.WithTee(nil, io.Discard)},
		"StdinPipe":  {pipe(func(c *exec.Cmd) (io.Closer, error) { return c.StdinPipe() }), nil},
		"StdoutPipe": {pipe(func(c *exec.Cmd) (io.Closer, error) { return c.StdoutPipe() }), nil},
		"StderrPipe": {pipe(func(c *exec.Cmd) (io.Closer, error) { return c.StderrPipe() }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := runPTY(t, test.cmd, test.opt)
			var config *safeexec.ConfigError
			require.ErrorAs(t, err, &config)
			assert.Zero(t, res.PID)
			if strings.HasSuffix(name, "Pipe") { // what it opened is the caller's until a start
				test.cmd.Err = io.EOF
				_ = test.cmd.Start()
			}
		})
	}
}

// A start that fails leaves nothing, nor do many that do not.
func TestPTYLeavesNothing(t *testing.T) {
	testproc.NoLeaks(t)
	for range 20 {
		_, err := runPTY(t, exec.Command("/nonexistent/program"))
		require.ErrorIs(t, err, safeexec.ErrNotFound)
		cmd := exec.Command("true")
		cmd.Stdin = strings.NewReader("x")
		_, err = runPTY(t, cmd)
		require.NoError(t, err)
	}
}

// The terminal belongs to the user that the command runs as.
func TestPTYOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts commands as others")
	}
	testproc.NoLeaks(t)
	cmd := testproc.Shell(`echo mine >"$(tty)"; echo >/dev/tty; id -u`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
	cmd.Dir = "/"
	res, err := runPTY(t, cmd)
	require.NoError(t, err)
	assert.Equal(t, "mine\r\n\r\n54321\r\n", string(res.Stdout.Bytes()))
}

// In a user namespace the user has another number than out here, and the terminal is that user's all the same.
func TestPTYInUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root maps the IDs of others")
	}
	testproc.NoLeaks(t)
	mapped := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 54000, Size: 100}, {ContainerID: 1000, HostID: 55000, Size: 100}}
	for inside, outside := range map[uint32]uint32{0: 54000, 7: 54007, 1021: 55021} {
		cmd := testproc.Shell(`echo mine >"$(tty)" && echo >/dev/tty && stat -c %u "$(tty)" && id -u`)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mapped, GidMappings: mapped,
			Credential: &syscall.Credential{Uid: inside, Gid: inside},
		}
		cmd.Dir = "/"
		probe := exec.Cmd{Path: cmd.Path, Args: []string{"sh", "-c", ":"}, Dir: "/", SysProcAttr: cmd.SysProcAttr}
		if err := probe.Run(); err != nil {
			t.Skipf("needs user namespaces: %v", err)
		}
		res, err := runPTY(t, cmd)
		require.NoError(t, err, "%d: %s", outside, res.Stdout)
		assert.Equal(t, fmt.Sprintf("mine\r\n\r\n%[1]d\r\n%[1]d\r\n", inside), string(res.Stdout.Bytes()))
	}
}

// An ordinary user has pseudo-terminals; where there is no /dev nobody has.
func TestPTYElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change its root and its user")
	}
	needPTY(t)
	testproc.NoLeaks(t)
	root := t.TempDir()
	program, err := os.ReadFile(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "true"), program, 0o755))
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"user":  {[]string{"user", "/bin/sh", "-c", "stty size"}, "24 80\r\n <nil>\n"},
		"empty": {[]string{root, "/true"}, " no terminal: file does not exist\n"},
	} {
		out, err := testproc.RoleCommand(t, "pty-elsewhere", test.args...).Output()
		require.NoError(t, err, name)
		assert.Equal(t, test.want, string(out), name)
	}
}

// ptyElsewhere runs a command as an ordinary user, or in another root.
func ptyElsewhere(args []string) int {
	var err error
	if args[0] == "user" {
		err = errors.Join(syscall.Setgroups(nil), syscall.Setgid(54321), syscall.Setuid(54321))
	} else {
		err = syscall.Chroot(args[0])
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	cmd := &exec.Cmd{Path: args[1], Args: args[1:], Dir: "/"}
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithPTY(24, 80))
	if errors.Is(err, safeexec.ErrNoTerminal) && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("no terminal: %w", fs.ErrNotExist)
	}
	fmt.Printf("%s %v\n", res.Stdout.Bytes(), err)
	return 0
}
