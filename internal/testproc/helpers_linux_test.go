package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An ignored signal is dropped when it is sent: what the kernel ignores is the proof.
func TestIgnoreIsTheKernels(t *testing.T) {
	cmd := Command("ignore", "TERM", "USR1")
	Ready(t, start(t, cmd))
	mask := signalMask(cmd.Process.Pid, "SigIgn")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1} {
		assert.NotZero(t, mask&(1<<(sig-1)), sig)
	}
}

func TestStopSelf(t *testing.T) {
	cmd := Command("stop-self")
	r := start(t, cmd)
	Ready(t, r)
	WaitState(t, cmd.Process.Pid, "T")
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	assert.Equal(t, "continued", ReadLine(t, r))
}

// The name is there before the environment.
func TestWaitCommIsAfterExec(t *testing.T) {
	for range 100 {
		cmd := exec.Command("sleep", "600")
		require.NoError(t, cmd.Start())
		WaitComm(t, cmd.Process.Pid, "sleep")
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
		assert.NoError(t, err)
		assert.NotEmpty(t, environ)
		assert.NoError(t, cmd.Process.Kill())
		assert.Error(t, cmd.Wait())
	}
}

func TestFDs(t *testing.T) {
	canary := NewCanary(t)
	cmd := Command("fds")
	cmd.ExtraFiles = []*os.File{canary.File()}
	out, err := cmd.Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	assert.Contains(t, lines, "0 /dev/null")
	assert.Contains(t, lines, "3 "+canary.target)
	// What else is there, this process was born with as well.
	mine, err := openFDs()
	require.NoError(t, err)
	for _, line := range lines {
		var n int
		var target string
		fmt.Sscan(line, &n, &target)
		if n > 3 {
			assert.Contains(t, mine, fd{n, target})
		}
	}
}

func TestForkIsATree(t *testing.T) {
	cmd := Command("fork", "2")
	r, canary := startTree(t, cmd)
	pids := Ready(t, r)
	assert.ElementsMatch(t, pids, canary.Holders())
	for _, pid := range pids[1:] {
		p, err := readProcess(pid)
		require.NoError(t, err)
		assert.Equal(t, cmd.Process.Pid, p.ppid)
	}
	kill(t, pids...)
	canary.WaitGone(t)
	for _, pid := range pids[1:] {
		// PID 1 may not reap.
		WaitState(t, pid, "Z\x00")
	}
}

func TestDead(t *testing.T) {
	cmd := Command("exit", "0")
	require.NoError(t, cmd.Start())
	WaitState(t, cmd.Process.Pid, "Z")
	assert.True(t, Dead(cmd.Process.Pid))
	require.NoError(t, cmd.Wait())
	assert.False(t, Dead(os.Getpid()))
}

// The watchdog ends a helper that ignores signals, and one that is stopped.
func TestWatchdog(t *testing.T) {
	for _, name := range []string{"ignore", "stop-self"} {
		for life, ready := time.Second/4, false; !ready; life *= 2 { // until the machine has it ready in that time
			t.Setenv(lifeTime, life.String())
			cmd := Command(name, map[string][]string{"ignore": {"TERM", "ALRM"}}[name]...)
			r, canary := startTree(t, cmd)
			line, err := readLine(r)
			ready = err == nil
			canary.WaitGone(t)
			require.Equal(t, syscall.SIGKILL, waitStatus(t, cmd).Signal(), line)
			require.Less(t, life, time.Minute)
		}
	}
}

// Tests that nohup(1) or a shell's & started have children that hear HUP and INT.
func TestHeedsSignals(t *testing.T) {
	if os.Getenv(heedsVariable) != "" {
		assert.Zero(t, signalMask(os.Getpid(), "SigIgn")&(1<<(syscall.SIGHUP-1)|1<<(syscall.SIGINT-1)))
		return
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", `trap "" HUP INT; exec "$0" -test.run='^TestHeedsSignals$' -test.v`, exe)
	cmd.Env = append(os.Environ(), heedsVariable+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "PASS: TestHeedsSignals")
}

const heedsVariable = "SAFEEXEC_TEST_HEEDS"
