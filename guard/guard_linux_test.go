package guard_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A program is a host in a process of its own.
type program struct {
	*exec.Cmd
	canary *testproc.Canary
	in     *os.File
	out    *bufio.Reader
	token  string
	log    string
}

// script leaves the session, the environment and the group, ignores SIGTERM, and loses the leader's eye.
const script = `
trap "" TERM
env -i setsid sh -c 'sleep 7001 & exec sleep 7002' &
(setsid setsid sleep 7003 &)
sleep 7004 &
echo started
wait
`

func start(t *testing.T, what, script string, env ...string) *program {
	t.Helper()
	return startWith(t, &syscall.SysProcAttr{Setpgid: true}, nil, what, script, env...)
}

// startWith also gives it files, from descriptor firstFile on.
func startWith(t *testing.T, attr *syscall.SysProcAttr, files []*os.File, what, script string, env ...string) *program {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	p := &program{
		Cmd: exec.Command(exe, script), canary: testproc.NewCanary(t),
		token: strconv.FormatUint(rand.Uint64(), 36), log: filepath.Join(dir, "log"),
	}
	p.Env = append(os.Environ(), hostVariable+"="+what, logVariable+"="+p.log, tokenVariable+"="+p.token,
		"GORACE=atexit_sleep_ms=0")
	p.Env = append(p.Env, env...)
	p.ExtraFiles = append([]*os.File{p.canary.File()}, files...)
	p.SysProcAttr = attr
	r, in, err := os.Pipe()
	require.NoError(t, err)
	out, w, err := os.Pipe()
	require.NoError(t, err)
	p.Stdin, p.Stdout, p.in, p.out = r, w, in, bufio.NewReader(out)
	require.NoError(t, p.Start())
	r.Close()
	w.Close()
	p.canary.CloseParent()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
		in.Close()
		p.guardGone(t)
		out.Close()
	})
	return p
}

func (p *program) line(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(testproc.ReadLine(t, p.out))
}

func (p *program) tell(t *testing.T, what string) {
	t.Helper()
	_, err := p.in.WriteString(what + "\n")
	require.NoError(t, err)
}

// guards returns the PIDs of the program's guard: none, one, or two for the moment of a replacement.
func (p *program) guards() []int { return p.named("safeexec-guard") }

func (p *program) guardGone(t *testing.T) {
	testproc.Wait(t, func() bool { return len(p.guards()) == 0 })
}

// records returns what the guard wrote.
func (p *program) records(t *testing.T) (list []map[string]any) {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		record := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		list = append(list, record)
	}
	return list
}

// A program that has no run when it ends has nothing to end, and its guard goes.
func TestNothingToEnd(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", "echo started; exec sleep 7005")
	require.Equal(t, "started", p.line(t))
	require.Len(t, p.guards(), 1)
	p.tell(t, "stop")
	require.Equal(t, "restarts 0 true", p.line(t))
	p.tell(t, "exit")
	p.canary.WaitGone(t)
	p.guardGone(t)
	assert.Empty(t, p.records(t))
}

func TestGuardIsReplaced(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", script)
	require.Equal(t, "started", p.line(t))
	first := p.guards()
	require.Len(t, first, 1)
	require.NoError(t, syscall.Kill(first[0], syscall.SIGKILL))
	testproc.Wait(t, func() bool { now := p.guards(); return len(now) == 1 && now[0] != first[0] })
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
}

func TestReplacementIsInTheResult(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", "echo started; exec sleep 7006")
	require.Equal(t, "started", p.line(t))
	first := p.guards()
	require.Len(t, first, 1)
	require.NoError(t, syscall.Kill(first[0], syscall.SIGKILL))
	testproc.Wait(t, func() bool { now := p.guards(); return len(now) == 1 && now[0] != first[0] })
	p.tell(t, "stop")
	assert.Equal(t, "restarts 1 true", p.line(t))
}

func TestGuardDoesNotHear(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", script)
	require.Equal(t, "started", p.line(t))
	guards := p.guards()
	require.Len(t, guards, 1)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		require.NoError(t, syscall.Kill(guards[0], sig))
	}
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	p.guardGone(t)
	assert.Len(t, p.records(t), 1, "it was that guard")
}

// Ending the program with its tree does not end the guard first.
func TestKillTreeOfTheProgram(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", script)
	require.Equal(t, "started", p.line(t))
	guards := p.guards()
	require.Len(t, guards, 1)
	did, err := safeexec.KillTree(t.Context(), safeexec.OSProcess(p.Process), safeexec.WithGracePeriod(0))
	require.NoError(t, err)
	for _, k := range did.Killed {
		assert.NotEqual(t, guards[0], k.PID)
	}
	p.canary.WaitGone(t)
	p.guardGone(t)
}

func TestInACgroup(t *testing.T) {
	t.Parallel()
	p := start(t, inCgroup, script+"\n")
	line := p.line(t)
	if line == "no cgroup" {
		t.Skip("no cgroup can be made here")
	}
	require.Equal(t, "started", line)
	pattern := fmt.Sprintf("safeexec-%d-*", p.Process.Pid)
	require.NotEmpty(t, cgroups(t, pattern))
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	p.guardGone(t)
	assert.Empty(t, cgroups(t, pattern), "it is removed")
}

// A process in the run's cgroup is asked to end, and is in the log, even without any mark.
func TestInACgroupWithoutAMark(t *testing.T) {
	testproc.HasProgram(t, "prlimit")
	t.Parallel()
	p := start(t, "patient in a cgroup", `
env -i setsid prlimit --rttime=unlimited: sh -c '
	(trap "echo asked; exit" TERM; echo started; while :; do sleep 1; done) & exit' >&1
exec sleep 7012`, testproc.DisableVariable+"=slice")
	line := p.line(t)
	if line == "no cgroup" {
		t.Skip("no cgroup can be made here")
	}
	require.Equal(t, "started", line)
	require.NoError(t, p.Process.Kill())
	require.Equal(t, "asked", p.line(t))
	p.canary.WaitGone(t)
	p.guardGone(t)
	records := p.records(t)
	require.Len(t, records, 1)
	assert.Contains(t, fmt.Sprint(records[0]["killed"]), "name:sh ")
	assert.NotContains(t, records[0], "error")
	assert.Empty(t, cgroups(t, fmt.Sprintf("safeexec-%d-*", p.Process.Pid)))
}

// cgroups returns the directories of that name that are below any mount of cgroup 2, two levels deep at most.
func cgroups(t *testing.T, pattern string) (list []string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		for _, below := range []string{"", "*/", "*/*/"} {
			found, err := filepath.Glob(root + "/" + below + pattern)
			require.NoError(t, err)
			list = append(list, found...)
		}
	}
	return list
}

// A guarded program within the run of a guarded program: each ends what is its own.
func TestGuardedWithinGuarded(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	inner := hostVariable + "=wait " + exe + " '" + strings.ReplaceAll(script, "'", `'\''`) + "' <&0"
	t.Run("the outer dies", func(t *testing.T) {
		t.Parallel()
		p := start(t, "wait", inner)
		require.Equal(t, "started", p.line(t))
		require.NoError(t, p.Process.Kill())
		p.canary.WaitGone(t)
	})
	t.Run("the inner dies", func(t *testing.T) {
		t.Parallel()
		p := start(t, "wait", strings.Replace(inner, "'", "'echo $PPID", 1)+"; echo over; exec sleep 7011")
		pid, err := strconv.Atoi(p.line(t))
		require.NoError(t, err)
		require.Equal(t, "started", p.line(t))
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		require.Equal(t, "over", p.line(t))
		testproc.Wait(t, func() bool { return len(p.canary.Holders()) == 1 }) // the outer command; its program has sealed the canary
		testproc.Wait(t, func() bool { return len(p.guards()) == 1 })
		require.NoError(t, p.Process.Kill())
		p.canary.WaitGone(t)
		p.guardGone(t)
		var hosts []any
		for _, r := range p.records(t) {
			hosts = append(hosts, r["host"])
			assert.NotContains(t, r, "error")
		}
		assert.Equal(t, []any{float64(pid), float64(p.Process.Pid)}, hosts, "each ends its own, once")
	})
}

// The guard has none of the descriptors that the program was born with.
func TestGuardIsSealed(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{"": "", "without close_range": "SAFEEXEC_TEST_DISABLE=close_range"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			born := testproc.NewCanary(t)
			files := make([]*os.File, 6) // nil is a descriptor that is closed
			files[9-firstFile] = born.File()
			p := startWith(t, &syscall.SysProcAttr{Setpgid: true}, files, "wait", "echo started; exec sleep 7060", env)
			born.CloseParent()
			require.Equal(t, "started", p.line(t))
			guards := p.guards()
			require.Len(t, guards, 1)
			pipe, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/9", p.Process.Pid))
			require.NoError(t, err)
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", guards[0]))
			require.NoError(t, err)
			for _, fd := range open {
				target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", guards[0], fd.Name()))
				assert.NotEqual(t, pipe, target, fd.Name())
			}
		})
	}
}

// A log that cannot be opened is an error before anything runs.
func TestNoLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none", "log")
	p := start(t, "wait", "echo started", logVariable+"="+path)
	assert.Equal(t, "refused true true "+path, p.line(t))
	p.canary.WaitGone(t)
}

// Without Init the option is refused, and nothing runs.
func TestInitWasNotCalled(t *testing.T) {
	t.Parallel()
	p := start(t, "without Init", "echo started")
	assert.Contains(t, p.line(t), "WithGuard needs guard.Init to be called first in main")
}

// The variable that makes a copy the guard means nothing to a program that another program started with it.
func TestForgedVariable(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, text := range []string{"copy:1:1:1", "first:1:1:1", "copy:::", "x", ""} {
		cmd := exec.Command(exe, "-test.run", "^$")
		cmd.Env = append(os.Environ(), "SAFEEXEC_GUARD="+text)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, text)
		assert.Contains(t, string(out), "PASS", text)
	}
}
