//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

const gnu = "/usr/bin/timeout"

// TestTimeout runs the same command lines by GNU's program and by ours.
func TestTimeout(t *testing.T) {
	ours := filepath.Join(t.TempDir(), "timeout")
	out, err := exec.CommandContext(testproc.WholeDeadline(t), "go", "build", "-o", ours, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	programs := []program{{"safeexec", ours}}
	if out, _ := exec.Command(gnu, "--version").Output(); bytes.Contains(out, []byte("GNU coreutils")) {
		programs = append(programs, program{"gnu", gnu})
	} else {
		t.Log("no timeout of the GNU coreutils: only ours is tested")
	}
	t.Run("codes", func(t *testing.T) { testCodes(t, programs) })
	t.Run("values", func(t *testing.T) { testValues(t, programs) })
	t.Run("forwarding", func(t *testing.T) { forEach(t, programs, testForwarding) })
	t.Run("kill after a forwarded signal", func(t *testing.T) { forEach(t, programs, testForwardedKill) })
	t.Run("streams", func(t *testing.T) { forEach(t, programs, testStreams) })
	t.Run("death by the same signal", func(t *testing.T) { forEach(t, programs, testSameDeath) })
	t.Run("left behind", func(t *testing.T) { forEach(t, programs, testLeftBehind) })
	t.Run("another process group", func(t *testing.T) { forEach(t, programs, testOtherGroup) })
}

// A program is one of the two.
type program struct{ name, path string }

// command returns the program under one name for both, so that their messages are the same.
func (p program) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(testproc.Deadline(t), p.path)
	cmd.Args = append([]string{"timeout"}, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Dir = t.TempDir()
	return cmd
}

// awaitReady waits until GNU's program waits for its command. A signal that comes when the command
// runs and fork(2) has not yet returned to GNU's ends it and leaves the command; ours takes it.
func (p program) awaitReady(t *testing.T, cmd *exec.Cmd) {
	for p.path == gnu {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		require.NoError(t, err)
		if bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')'):], []byte(") S")) {
			return
		}
		require.NoError(t, testproc.Deadline(t).Err())
		time.Sleep(time.Millisecond)
	}
}

// code returns what a shell's $? is after cmd.
func code(t *testing.T, cmd *exec.Cmd, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func forEach(t *testing.T, programs []program, test func(*testing.T, program)) {
	t.Parallel()
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

func testCodes(t *testing.T, programs []program) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	testproc.WriteExecutable(t, script, []byte("exit 9\n"), 0o755)
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o644))

	sh := func(script string, options ...string) []string { return append(options, "sh", "-c", script) }
	line := strings.Fields
	for _, c := range []struct {
		name string
		args []string
		code int
		text string // why ours says something else on standard error
	}{
		{name: "success", args: line("60 true")},
		{name: "failure", args: line("60 false"), code: 1},
		{name: "its own 3", args: sh("exit 3", "60"), code: 3},
		{name: "its own 124", args: sh("exit 124", "60"), code: 124},
		{name: "its own 255", args: sh("exit 255", "60"), code: 255},
		{name: "arguments", args: append(sh(`test "$0 $1 $#" = "-k -- 1"`, "60"), "-k", "--")},
		{name: "script without an interpreter line", args: []string{"60", script}, code: 9},

		{name: "no operand", code: 125},
		{name: "no command", args: line("1"), code: 125},
		{name: "unknown long option", args: line("--bogus=1 1 true"), code: 125},
		{name: "unknown short option", args: line("-z 1 true"), code: 125},
		{name: "negative duration as an option", args: line("-1 true"), code: 125},
		{name: "long option without its argument", args: line("--signal"), code: 125},
		{name: "short option without its argument", args: line("-vk"), code: 125},
		{name: "long option with an argument too many", args: line("--verbose=1 1 true"), code: 125},
		{name: "ambiguous option", args: line("--ver 1 true"), code: 125},

		{name: "not found", args: line("60 no-such-program"), code: 127},
		{name: "not found by its path", args: line("60 /no/such/program"), code: 127},
		{name: "option for a command", args: line("60 -v true"), code: 127},
		{name: "empty name", args: []string{"60", ""}, code: 127},
		{name: "not executable", args: []string{"60", plain}, code: 126},
		{name: "below a file", args: []string{"60", plain + "/x"}, code: 126},
		{name: "directory", args: line("60 /"), code: 126, text: "Go says what it is before the kernel refuses it"},

		{name: "timed out", args: line("0.1 sleep 60"), code: 124},
		{name: "verbose", args: line("-v .1 sleep 60"), code: 124},
		{name: "verbose with a path", args: line("--verb .1 /bin/sleep 60"), code: 124},
		{name: "end of the options", args: line("-v -- .1 sleep 60"), code: 124},
		{name: "foreground", args: line("--foreground -v .1 sleep 60"), code: 124},
		{name: "hang up", args: line("-s HUP -v .1 sleep 60"), code: 124},
		{name: "preserved status of a signal", args: line("--preserve-status .1 sleep 60"), code: 143},
		{name: "preserved status, abbreviated", args: line("--p -s INT .1 sleep 60"), code: 130},
		{name: "preserved status in time", args: sh("exit 3", "--preserve-status", "60"), code: 3},
		{name: "stopped command", args: sh("kill -STOP $$; exit 3", ".2"), code: 124},
		{name: "signal that changes nothing", args: line("-v -s CONT .1 sleep .5"), code: 124},
		{name: "no signal", args: line("-v -s 0 .1 sleep .5"), code: 124},

		{name: "KILL", args: line("-v -s KILL .1 sleep 60"), code: 137},
		{name: "KILL, preserved", args: line("--preserve-status -s 9 .1 sleep 60"), code: 137},
		{name: "KILL, in the foreground", args: line("--foreground -v -s KILL .1 sleep 60"), code: 137},
		// WINCH is ignored by default, so that nothing has to be set up before the time is up.
		{name: "KILL after an ignored signal", args: line("-v -k .1 -s WINCH .1 sleep 60"), code: 137},
		{name: "KILL after, preserved", args: line("--preserve-status -vk.1 -sWINCH .1 sleep 60"), code: 137},
		{name: "KILL after, never needed", args: line("-v --kill-after=50 .1 sleep 60"), code: 124},
		{name: "KILL after 0", args: line("-v --kill 0 .1 sleep 60"), code: 124},

		{name: "died of SEGV", args: sh("kill -SEGV $$", "60"), code: 139},
		{name: "died of KILL", args: sh("kill -KILL $$", "60"), code: 137},
		{name: "died of TERM", args: sh("kill -TERM $$", "60"), code: 143},
		{name: "died of USR1", args: sh("kill -USR1 $$", "60"), code: 138},
		{name: "died of PIPE", args: sh("kill -PIPE $$", "60"), code: 141},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			said := runAll(t, programs, c.code, c.args...)
			if c.text == "" {
				sameText(t, said)
			}
		})
	}
}

// runAll runs a command line by each program, and returns what they said on standard error.
func runAll(t *testing.T, programs []program, want int, args ...string) map[string]string {
	t.Helper()
	said := make(map[string]string)
	for _, p := range programs {
		var stderr bytes.Buffer
		cmd := p.command(t, args...)
		cmd.Stderr = &stderr
		got := code(t, cmd, cmd.Run())
		for long := 1; got == 0 && want == 124 && long < 30; long *= 2 { // a machine that stood still for so long
			stderr.Reset()
			cmd = p.command(t, append(args[:len(args)-1:len(args)-1], fmt.Sprint(long))...)
			cmd.Stderr = &stderr
			got = code(t, cmd, cmd.Run())
		}
		assert.Equal(t, want, got, "%s: %s", p.name, &stderr)
		said[p.name] = stderr.String()
	}
	return said
}

func sameText(t *testing.T, said map[string]string) {
	t.Helper()
	if text, ok := said["gnu"]; ok {
		assert.Equal(t, text, said["safeexec"])
	}
}

// testValues: what is a duration, and what is a signal.
func testValues(t *testing.T, programs []program) {
	t.Parallel()
	for _, c := range []struct {
		option string
		code   int
		values []string
	}{
		{"--kill-after", 0, []string{
			"0", "-0", "1", "+1", " 1", "1.", ".5", "1.5m", "2h", "1d", "1e3", "1e-3", "1E2s", "1e9999", "1e-9999",
			"inf", "INFINITY", "+Infd", "0x1p4", "0x1.8p4m",
		}},
		{"--kill-after", 125, []string{
			"", "s", "x", "1x", "1ms", "1 s", "1 ", "1S", "1_0", "0x_1p4", ".s", ".", "1e", "1ed", "0x", "0xp1", "nan", "-1", "-inf",
		}},
		{"--signal", 0, []string{
			"TERM", "term", "SigTerm", "15", "015", "0", "EXIT", "129", "137", "256", "IO", "POLL", "CLD", "IOT", "STKFLT", "SYS",
			"31", "34", "64", "RTMIN", "rtmin+3", "RTMIN+30", "SIGRTMAX-1", "RTMAX-30", "RTMAX",
		}},
		{"--signal", 125, []string{
			"", "SIG", "FOO", "SIGSIGHUP", "UNUSED", " 9", "+9", "-1", "9x", "0x9", "32", "33", "65", "99", "255", "999",
			"RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMAX-31", "RTMINX", "99999999999999999999",
		}},
	} {
		for _, value := range c.values {
			t.Run(fmt.Sprintf("%s=%s", c.option, value), func(t *testing.T) {
				t.Parallel()
				sameText(t, runAll(t, programs, c.code, c.option, value, "60", "true"))
			})
		}
	}
	for _, name := range []string{"10", "RTMIN", "RTMIN+15", "RTMIN+16", "RTMAX-1", "64", "IOT"} {
		t.Run("name of "+name, func(t *testing.T) {
			t.Parallel()
			sameText(t, runAll(t, programs, 124, "-v", "-s", name, ".1", "sleep", "60"))
		})
	}
}

// testForwarding: a signal to timeout reaches the command, whose own status counts.
func testForwarding(t *testing.T, p program) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		for _, c := range []struct {
			name, script string
			code         int
		}{
			{"dies", "ulimit -c 0; echo ready; exec sleep 60", 128 + int(sig)},
			// A signal that comes just before a shell's read(2) has its trap wait for the end of that.
			{"ends", "exec 2>/dev/null; trap 'exit 7' TERM INT HUP QUIT; echo ready; while :; do sleep .01; done", 7},
		} {
			t.Run(nameOf(sig)+" "+c.name, func(t *testing.T) {
				t.Parallel()
				got, said := signaled(t, p, sig, "-v", "3600", "sh", "-c", c.script)
				assert.Equal(t, c.code, got)
				assert.Equal(t, "timeout: sending signal "+nameOf(sig)+" to command ‘sh’\n", said)
			})
		}
	}
}

// testForwardedKill: what ignores the signal is killed after -k.
func testForwardedKill(t *testing.T, p program) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(nameOf(sig), func(t *testing.T) {
			t.Parallel()
			script := "trap '' TERM INT; echo ready; exec sleep 60"
			got, _ := signaled(t, p, sig, "-k", ".1", "3600", "sh", "-c", script)
			assert.Equal(t, 137, got)
		})
	}
}

// signaled sends sig to the program once its command has said that it is ready.
func signaled(t *testing.T, p program, sig syscall.Signal, args ...string) (status int, said string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := p.command(t, args...)
	cmd.Stderr = &stderr
	_, err := cmd.StdinPipe() // on which nothing comes
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.Equal(t, "ready", testproc.ReadLine(t, stdout))
	p.awaitReady(t, cmd)
	require.NoError(t, cmd.Process.Signal(sig))
	return code(t, cmd, cmd.Wait()), stderr.String()
}

// testStreams: all three are the command's own, with nothing in between.
func testStreams(t *testing.T, p program) {
	var files [3]*os.File
	for i := range files {
		var err error
		files[i], err = os.Create(filepath.Join(t.TempDir(), "stream"))
		require.NoError(t, err)
		t.Cleanup(func() { files[i].Close() })
	}
	cmd := p.command(t, "60", "sh", "-c", "for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	require.NoError(t, cmd.Run())
	got, err := os.ReadFile(files[1].Name())
	require.NoError(t, err)
	assert.Equal(t, []string{files[0].Name(), files[1].Name(), files[2].Name()}, strings.Fields(string(got)))
}

// testSameDeath: timeout dies of the signal that its command died of. It is TERM, which is not ignored by default.
func testSameDeath(t *testing.T, p program) {
	cmd := p.command(t, "60", "sh", "-c", "kill -TERM $$")
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &exit)
	assert.Equal(t, syscall.SIGTERM, exit.Sys().(syscall.WaitStatus).Signal())
}

// testLeftBehind: a background process of a command that ended in time. GNU's lets it run.
func testLeftBehind(t *testing.T, p program) {
	canary := testproc.NewCanary(t)
	cmd := p.command(t, "60", "sh", "-c", "sleep 3601 & exit 3")
	cmd.Stdout = canary.File()
	assert.Equal(t, 3, code(t, cmd, cmd.Run()))
	assertLeft(t, p, canary)
}

// assertLeft: GNU's has left the process that has the canary, ours has not. What other tests start at this
// moment has it too, until exec.
func assertLeft(t *testing.T, p program, canary *testproc.Canary) {
	t.Helper()
	canary.CloseParent()
	if p.path == gnu {
		assert.True(t, canary.Alive())
		return
	}
	canary.WaitGone(t)
}

// testOtherGroup: a background process in a group of its own, as those of job control are.
func testOtherGroup(t *testing.T, p program) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash: ", err)
	}
	canary := testproc.NewCanary(t)
	cmd := p.command(t, "3600", bash, "-c", "set -m; sleep 3601 & echo ready >&2; wait")
	cmd.Stdout = canary.File()
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	canary.CloseParent()
	require.Equal(t, "ready", testproc.ReadLine(t, stderr))
	p.awaitReady(t, cmd)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, 143, code(t, cmd, cmd.Wait()))
	assertLeft(t, p, canary)
}
