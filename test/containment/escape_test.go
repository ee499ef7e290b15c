//go:build linux

package containment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// Processes that leave the session by a double fork and replace themselves for ever are ended in
// bounded time. They do it at a pace that leaves PIDs where zombies are not reaped.
func TestCgroupEndsAForkStorm(t *testing.T) {
	testproc.HasProgram(t, "python3")
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	crowd := 29
	if testproc.Soaking() {
		crowd = 87
	}
	for _, opt := range []safeexec.Option{safeexec.WithTermSignal(syscall.SIGKILL), safeexec.WithGracePeriod(10 * time.Millisecond)} {
		cmd := exec.Command(testproc.HasProgram(t, "python3"), "-S", "-c", `import os, signal, sys, time
r, w = os.pipe()
crowd = int(sys.argv[1])
for _ in range(crowd):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        os.write(w, b"x")
        while True:
            if os.fork(): os._exit(0)
            time.sleep(0.5)
n = 0
while n < crowd: n += len(os.read(r, crowd))
print("ready", os.getpid(), flush=True)
while True: time.sleep(600)`, strconv.Itoa(crowd))
		canary := testproc.WithCanary(t, cmd)
		p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), inCgroup(parent), opt)
		res, err := p.Stop()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.NotErrorIs(t, err, safeexec.ErrSurvivors)
		canary.WaitGone(t)
		assert.Empty(t, res.LeftCgroup)
		t.Logf("ended within %v", res.Times.Stop)
	}
}

// escapee builds a static program that, at once, forks twice, leaves the session and drops its
// environment, and then sleeps.
func escapee(t *testing.T) string {
	t.Helper()
	gcc := testproc.HasProgram(t, "gcc")
	dir := t.TempDir()
	source, program := filepath.Join(dir, "escapee.c"), filepath.Join(dir, "escapee")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <unistd.h>
int main(int argc, char **argv) {
	char *none[] = { 0 };
	if (argc > 1) { alarm(600); for (;;) pause(); }
	if (fork()) _exit(0);
	setsid();
	if (fork()) _exit(0);
	char *args[] = { argv[0], "sleep", 0 };
	execve(argv[0], args, none);
	_exit(1);
}
`), 0o600))
	out, err := exec.CommandContext(testproc.Deadline(t), gcc, "-static", "-O", "-o", program, source).CombinedOutput()
	if err != nil {
		t.Skipf("no static program can be built: %v, %s", err, out)
	}
	return program
}

// escape runs the escapee again and again, 16 at once, and returns what was wrong. All that it starts has
// the canary.
func escape(program string, rounds int, canary *os.File, want safeexec.Containment, opts ...safeexec.Option) []string {
	var mu sync.Mutex
	var wrong []string
	var workers sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		workers.Go(func() {
			for next.Add(1) <= int64(rounds) {
				cmd := exec.Command(program)
				cmd.ExtraFiles = []*os.File{canary}
				res, err := safeexec.Run(context.Background(), cmd,
					safeexec.WithTimeout(testrun.Bound), safeexec.WithLinger(0), safeexec.Options(opts...))
				if err != nil || len(res.Survivors) > 0 || res.LeftCgroup != "" || res.Containment != want {
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("%v, %v, %+v, %s", res.Containment, err, res.Survivors, res.LeftCgroup))
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return wrong
}

// TestCgroupAgainstInstantEscape is what no mark that is set after the start can promise.
func TestCgroupAgainstInstantEscape(t *testing.T) {
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	canary := testproc.NewCanary(t)
	wrong := escape(escapee(t), testproc.Rounds(32), canary.File(), safeexec.ContainmentCgroup, inCgroup(parent))
	assert.Empty(t, wrong)
	assert.Empty(t, canary.Holders(), "survivors")
	canary.WaitGone(t)
}

func init() {
	testproc.Roles["exact-user"] = func(args []string) int {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil && os.Getuid() == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		rounds, _ := strconv.Atoi(args[0])
		opts := safeexec.WithContainment(safeexec.ContainmentExact)
		res, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound), opts)
		if err != nil || res.Containment != safeexec.ContainmentExact {
			fmt.Println("skip", res.Containment, err)
			return 0
		}
		canary := os.NewFile(3, "canary")
		syscall.CloseOnExec(3)
		for _, wrong := range escape(args[1], rounds, canary, safeexec.ContainmentExact, opts) {
			fmt.Println(wrong)
		}
		fmt.Println("done")
		return 0
	}
}

// TestExactAgainstInstantEscape has no cgroup: the command is marked in its exec stop.
func TestExactAgainstInstantEscape(t *testing.T) {
	testproc.NoLeaks(t)
	canary := testproc.NewCanary(t)
	program := escapee(t)
	for dir := filepath.Dir(program); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755)) // for the ordinary user
	}
	cmd := testproc.RoleCommand(t, "exact-user", strconv.Itoa(testproc.Rounds(32)), program)
	cmd.ExtraFiles = []*os.File{canary.File()}
	out, err := cmd.Output()
	require.NoError(t, err)
	if reason, ok := strings.CutPrefix(string(out), "skip"); ok {
		t.Skip("needs an ordinary user who may stop commands and mark them, and has no cgroup:" + reason)
	}
	assert.Equal(t, "done\n", string(out))
	assert.Empty(t, canary.Holders(), "survivors")
	canary.WaitGone(t)
}

// If containment is required and there is neither a cgroup nor a mark, nothing runs.
func TestExactFailsClosed(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "") //nolint:usetesting // where the ordinary user may go
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o777))
	ran := filepath.Join(dir, "ran")
	for _, prepare := range []string{"no ptrace", "low limit"} {
		a := asUser(t, safeexec.ContainmentExact, prepare, "touch", ran)
		if a.Rung == safeexec.ContainmentCgroup {
			t.Skip("this user's cgroup was delegated")
		}
		t.Log(a.Text)
		assert.True(t, a.Refused)
		assert.Zero(t, a.PID)
		assert.NoFileExists(t, ran)
	}
	a := asUser(t, safeexec.ContainmentExact, "", "touch", ran)
	if a.Refused {
		t.Skip("needs a user who may stop commands and mark them: ", a.Text)
	}
	assert.Equal(t, safeexec.ContainmentExact, a.Rung)
	assert.FileExists(t, ran)
}
