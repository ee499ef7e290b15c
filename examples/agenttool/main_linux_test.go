package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/examples/agenttool/sandbox"
	"github.com/seed841d8200/safeexec/examples/agenttool/shell"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/job"
)

// asTool makes this test binary the program.
const asTool = "SAFEEXEC_TEST_AGENTTOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asTool) != "" || len(os.Args) > 1 && os.Args[1] == sandbox.Restricted {
		os.Unsetenv(asTool)
		main()
		return
	}
	testproc.Main(m)
}

// A client is an MCP client and the program that it talks to.
type client struct {
	*mcp.ClientSession
	cmd *exec.Cmd
}

// connect starts the program.
func connect(t *testing.T, env []string, args ...string) *client {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), append(env, asTool+"=1", "GORACE=atexit_sleep_ms=0")...)
	cmd.Stderr = os.Stderr
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
		Connect(testproc.Deadline(t), &mcp.CommandTransport{Command: cmd, TerminateDuration: time.Minute}, nil)
	require.NoError(t, err)
	c := &client{session, cmd}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// call calls a tool. An error of the tool is in Message.
func (c *client) call(t *testing.T, tool string, args map[string]any) shell.Reply {
	t.Helper()
	res, err := c.CallTool(testproc.Deadline(t), &mcp.CallToolParams{Name: tool, Arguments: args})
	require.NoError(t, err)
	var r shell.Reply
	if res.StructuredContent == nil {
		require.True(t, res.IsError)
		return shell.Reply{Message: res.Content[0].(*mcp.TextContent).Text, Failed: true}
	}
	raw, err := json.Marshal(res.StructuredContent)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &r))
	assert.Equal(t, r.Text(), res.Content[0].(*mcp.TextContent).Text)
	return r
}

// store returns a directory for jobs, all of which are ended with the test.
func store(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		s, err := job.Open(dir)
		require.NoError(t, err)
		defer s.Close()
		jobs, err := s.List()
		require.NoError(t, err)
		for _, j := range jobs {
			_, err := j.Kill(testproc.Deadline(t))
			assert.NoError(t, err)
		}
	})
	return dir
}

// A server that runs in the background survives SIGKILL of the program, and the next one has it.
func TestRestart(t *testing.T) {
	dir := store(t)
	first := connect(t, nil, "-dir", dir)
	r := first.call(t, "run_in_background", map[string]any{
		"command": `read x; echo "got $x"; exec sleep 600`, "input": true})
	require.NotEmpty(t, r.Job, r.Message)
	arg := map[string]any{"job": r.Job}
	require.False(t, first.call(t, "input", map[string]any{"job": r.Job, "text": "hi\n"}).Failed)
	require.NoError(t, first.cmd.Process.Kill())
	_ = first.Wait()

	second := connect(t, nil, "-dir", dir)
	for second.call(t, "output", arg).Output != "got hi\n" {
		require.NoError(t, testproc.Deadline(t).Err())
	}
	assert.Contains(t, second.call(t, "list", map[string]any{}).Output, r.Job+": running")
	killed := second.call(t, "kill", arg)
	assert.False(t, killed.Failed)
	assert.Contains(t, killed.Message, "1 processes were ended")
	assert.NotContains(t, second.call(t, "list", map[string]any{}).Output, "running")
	assert.FileExists(t, killed.File)

	for _, tool := range []string{"output", "kill"} {
		assert.Contains(t, second.call(t, tool, map[string]any{"job": "none"}).Message, job.ErrNoJob.Error())
	}
	third := second.call(t, "input", map[string]any{"job": r.Job, "text": "x"})
	assert.True(t, third.Failed, "it has ended")
}

// The program ends at SIGTERM.
func TestSignal(t *testing.T) {
	c := connect(t, nil, "-dir", store(t))
	require.NoError(t, c.Ping(t.Context(), nil))
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM))
	_ = c.Wait()
	_ = c.Close()
	assert.Equal(t, 0, c.cmd.ProcessState.ExitCode())
}

// TestSandbox has a command write within and outside.
func TestSandbox(t *testing.T) {
	for _, kind := range []string{"bwrap", "landlock"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "bwrap" {
				path := testproc.HasProgram(t, "bwrap")
				if out, err := exec.Command(path, "--ro-bind", "/", "/", "--unshare-pid", "true").CombinedOutput(); err != nil {
					t.Skipf("bwrap does not work here: %s", out)
				}
			} else if abi, _, _ := syscall.Syscall(444, 0, 0, 1); int(abi) < 6 {
				t.Skip("this kernel has no Landlock of ABI 6")
			}
			work, outside, temp := t.TempDir(), t.TempDir(), t.TempDir()
			c := connect(t, []string{"TMPDIR=" + temp}, "-dir", store(t), "-work", work, "-sandbox", kind, "-yield", "1m")
			r := c.call(t, "run", map[string]any{"command": "echo in >f && cat f /etc/passwd >/dev/null && cat f; echo out >" + outside + "/f"})
			assert.Contains(t, r.Output, "in\n")
			assert.True(t, r.Failed)
			assert.Contains(t, r.Message, "bash failed with exit status 1")
			assert.NoFileExists(t, filepath.Join(outside, "f"))
			assert.FileExists(t, filepath.Join(work, "f"))
		})
	}
}

// What is asked for and is not there is an error, and no command runs without it.
func TestNoSandbox(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, kind := range []string{"bwrap", "chroot"} {
		_, err := sandbox.New(kind, "/")
		assert.Error(t, err, kind)
	}
	auto, err := sandbox.New("auto", "/")
	require.NoError(t, err)
	assert.Equal(t, "landlock", auto.Name)
	assert.Error(t, sandbox.Restrict(filepath.Join(t.TempDir(), "none"), []string{"true"}))
}
