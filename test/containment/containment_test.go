//go:build linux

package containment_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// cgroupParent makes a cgroup for the cgroups of one test, or skips the test and says why. At the end
// of the test none may be left in it.
func cgroupParent(t testing.TB) string {
	t.Helper()
	base, err := cgroup.Make("")
	if err == nil {
		err = base.Refusal()
	}
	if err != nil {
		if base != nil {
			_ = base.Remove(time.Time{})
		}
		t.Skipf("needs a cgroup v2 in which we may start commands: %v", err)
	}
	t.Cleanup(func() {
		assert.Empty(t, cgroupsIn(t, base.Dir()))
		_ = base.Kill()
		require.NoError(t, base.Remove(time.Now().Add(testrun.Bound)))
	})
	return base.Dir()
}

func cgroupsIn(t testing.TB, parent string) []string {
	t.Helper()
	found, err := filepath.Glob(parent + "/*/cgroup.procs")
	require.NoError(t, err)
	return found
}

// inCgroup is the option for runs in cgroups below parent.
func inCgroup(parent string) safeexec.Option {
	return safeexec.Options(safeexec.WithContainment(safeexec.ContainmentCgroup), safeexec.WithCgroupParent(parent))
}

func TestCgroupEndsDaemons(t *testing.T) {
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	cmd := testproc.Command("daemonize")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd, inCgroup(parent))
	require.NoError(t, err, "the daemon holds the pipes only until it is ended")
	assert.Empty(t, canary.Holders())
	canary.WaitGone(t)
	assert.Equal(t, safeexec.ContainmentCgroup, res.Containment)
	var killed []string
	for _, p := range res.Killed {
		assert.NotZero(t, p.StartTicks)
		killed = append(killed, strconv.Itoa(p.PID))
	}
	said := strings.Fields(res.Stdout.String()) // the daemon is the last
	assert.Contains(t, killed, said[len(said)-1])
	assert.LessOrEqual(t, len(killed), 2, "the one in the middle can take longer than the linger to exit")
	assert.Empty(t, res.Survivors)
	assert.Empty(t, res.Holders)
	assert.Empty(t, res.LeftCgroup)
	assert.False(t, res.OOMKilled)
	assert.Equal(t, &syscall.SysProcAttr{Setpgid: true}, cmd.SysProcAttr, "the caller's own is not changed")
}

// Without being told to, a run makes no cgroup; told to have the surest, it does.
func TestContainmentInForce(t *testing.T) {
	parent := cgroupParent(t)
	for _, tt := range []struct {
		opts []safeexec.Option
		want safeexec.Containment
	}{
		{nil, safeexec.ContainmentBest},
		{[]safeexec.Option{safeexec.WithCgroupParent(parent)}, safeexec.ContainmentCgroup},
		{[]safeexec.Option{safeexec.WithCgroupParent(parent), safeexec.WithContainment(safeexec.ContainmentExact)}, safeexec.ContainmentCgroup},
		{[]safeexec.Option{inCgroup(parent), safeexec.WithFDProof()}, safeexec.ContainmentCgroup},
		{[]safeexec.Option{inCgroup(""), safeexec.WithContainment(safeexec.ContainmentBest)}, safeexec.ContainmentBest},
	} {
		res, err := testrun.Run(t, exec.Command("cat", "/proc/self/cgroup"), tt.opts...)
		require.NoError(t, err)
		assert.Equal(t, tt.want, res.Containment)
		assert.Equal(t, tt.want == safeexec.ContainmentCgroup, strings.Contains(res.Stdout.String(), "/safeexec-"), res.Stdout.String())
	}
}

// A command in a cgroup inherits no descriptor more than another.
func TestCgroupIsNotInherited(t *testing.T) {
	parent := cgroupParent(t)
	res, err := testrun.Run(t, testproc.Command("fds"), inCgroup(parent), safeexec.WithFDPolicy(safeexec.FDOff), safeexec.WithFDs())
	require.NoError(t, err)
	assert.NotContains(t, res.Stdout.String(), "cgroup")
	res, err = testrun.Run(t, testproc.Command("fds"), inCgroup(parent), safeexec.WithFDProof())
	require.NoError(t, err)
	assert.True(t, res.FDsProved)
}

// Whatever keeps a command from starting, no cgroup is left: cgroupParent looks.
func TestNoCgroupIsLeftByFailures(t *testing.T) {
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	unknown := exec.Command("true")
	unknown.SysProcAttr = &syscall.SysProcAttr{Chroot: "/nonexistent"}
	for _, tt := range []struct {
		ctx  context.Context
		cmd  *exec.Cmd
		kind error
	}{
		{context.Background(), exec.Command("/nonexistent"), safeexec.ErrNotFound},
		{context.Background(), exec.Command("/dev/null"), safeexec.ErrNotExecutable},
		{context.Background(), &exec.Cmd{Path: "/bin/true", Dir: "/nonexistent"}, safeexec.ErrBadDir},
		{context.Background(), exec.Command("true", strings.Repeat("x", 1<<20)), syscall.E2BIG},
		{context.Background(), unknown, fs.ErrNotExist},
		{canceled, exec.Command("true"), safeexec.ErrCanceled},
	} {
		res, err := safeexec.Run(tt.ctx, tt.cmd, safeexec.WithTimeout(testrun.Bound), inCgroup(parent))
		require.ErrorIs(t, err, tt.kind)
		assert.NotErrorIs(t, err, safeexec.ErrContainment)
		assert.Empty(t, res.LeftCgroup)
		assert.Empty(t, cgroupsIn(t, parent))
	}
}

func TestBadContainment(t *testing.T) {
	t.Parallel()
	for _, opt := range []safeexec.Option{
		safeexec.WithContainment(-1), safeexec.WithContainment(safeexec.ContainmentCgroup + 1),
		safeexec.WithCgroupParent("relative"), safeexec.WithMemoryMax(0), safeexec.WithMemoryMax(-1),
		safeexec.WithPIDsMax(0), safeexec.WithPIDsMax(-1), safeexec.WithCPUMax(0), safeexec.WithCPUMax(-1),
		safeexec.WithCPUMax(math.NaN()), safeexec.WithCPUMax(math.Inf(1)),
		safeexec.Options(safeexec.WithContainment(safeexec.ContainmentExact), safeexec.WithBackground(safeexec.BackgroundLeave)),
	} {
		_, err := testrun.Run(t, exec.Command("true"), opt)
		var config *safeexec.ConfigError
		require.ErrorAs(t, err, &config)
	}
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true}
	_, err := testrun.Run(t, cmd, safeexec.WithContainment(safeexec.ContainmentExact))
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
	assert.Equal(t, "SysProcAttr", config.Name)
}

// A directory that is no cgroup can be made below, but commands cannot be started there.
func TestParentIsNoCgroup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	_, err := testrun.Run(t, exec.Command("touch", ran), inCgroup(dir))
	require.ErrorIs(t, err, safeexec.ErrContainment)
	containment, ok := errors.AsType[*safeexec.ContainmentError](err)
	require.True(t, ok)
	assert.Equal(t, dir, containment.Cgroup)
	assert.NoFileExists(t, ran)
	_, err = safeexec.RemoveStaleCgroups(dir)
	require.Error(t, err)
}

func init() {
	testproc.Roles["cgroup-user"] = func(args []string) int {
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil && os.Getuid() == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		rung, _ := strconv.Atoi(args[0])
		var err error
		switch args[1] {
		case "no ptrace":
			err = testproc.RefuseSyscall(unix.SYS_PTRACE, unix.EPERM)
		case "low limit":
			err = unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		res, err := safeexec.Run(context.Background(), exec.Command(args[2], args[3:]...), safeexec.WithTimeout(testrun.Bound),
			safeexec.WithContainment(safeexec.Containment(rung)))
		a := userAnswer{Rung: res.Containment, Text: fmt.Sprint(err), PID: res.PID}
		if c, ok := errors.AsType[*safeexec.ContainmentError](err); ok {
			a.Cgroup = c.Cgroup
			a.Denied = errors.Is(err, fs.ErrPermission)
			a.Refused = errors.Is(err, safeexec.ErrContainment)
		}
		json.NewEncoder(os.Stdout).Encode(a)
		return 0
	}
	testproc.Roles["cgroup-crash"] = func(args []string) int {
		p, err := safeexec.Start(context.Background(), exec.Command("sh", "-c", "(setsid sleep 600 &); sleep 600"),
			safeexec.WithTimeout(testrun.Bound), inCgroup(args[0]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready", os.Getpid(), p.PID())
		for { // an empty select is a deadlock to a program without cgo
			time.Sleep(time.Hour)
		}
	}
}

type userAnswer struct {
	Rung            safeexec.Containment
	Text, Cgroup    string
	Denied, Refused bool
	PID             int
}

// asUser runs a command as an ordinary user, after "no ptrace" or "low limit" if that is to hold.
func asUser(t *testing.T, rung safeexec.Containment, prepare string, command ...string) userAnswer {
	t.Helper()
	args := append([]string{strconv.Itoa(int(rung)), prepare}, command...)
	out, err := testproc.RoleCommand(t, "cgroup-user", args...).Output()
	require.NoError(t, err)
	var a userAnswer
	require.NoError(t, json.Unmarshal(out, &a))
	return a
}

// An ordinary user without a delegated cgroup gets an error that says so, and nothing has run.
func TestCgroupOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "") //nolint:usetesting // where the ordinary user may go
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o777))
	ran := filepath.Join(dir, "ran")
	a := asUser(t, safeexec.ContainmentCgroup, "", "touch", ran)
	if a.Rung == safeexec.ContainmentCgroup {
		t.Skip("this user's cgroup was delegated")
	}
	t.Log(a.Text)
	assert.True(t, a.Refused)
	assert.Zero(t, a.PID)
	assert.NoFileExists(t, ran)
	if a.Cgroup != "" {
		assert.Contains(t, a.Text, a.Cgroup)
	}
}

// What a process that was killed leaves behind in cgroups can be ended by the next one.
func TestRemoveStaleCgroups(t *testing.T) {
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	crash := testproc.RoleCommand(t, "cgroup-crash", parent)
	out, err := crash.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, crash.Start())
	pids := testproc.Ready(t, out)
	n, err := safeexec.RemoveStaleCgroups(parent)
	require.NoError(t, err)
	assert.Zero(t, n, "its owner lives")
	assert.Len(t, cgroupsIn(t, parent), 1)
	assert.False(t, testproc.Dead(pids[1]))
	require.NoError(t, crash.Process.Kill())
	_ = crash.Wait()
	n, err = safeexec.RemoveStaleCgroups(parent)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.True(t, testproc.Dead(pids[1]))
	assert.Empty(t, cgroupsIn(t, parent))
	n, err = safeexec.RemoveStaleCgroups(parent)
	require.NoError(t, err)
	assert.Zero(t, n)
}

// A process that cannot be killed keeps its cgroup, and the result says so.
func TestSurvivorKeepsItsCgroup(t *testing.T) {
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	pid := 0
	t.Cleanup(func() { // once the file system is gone
		if pid != 0 {
			testproc.WaitState(t, pid, "\x00")
			n, err := safeexec.RemoveStaleCgroups(parent)
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
		}
	})
	file := testproc.HungFile(t)
	p, err := safeexec.Start(context.Background(), exec.Command("cat", file), safeexec.WithTimeout(testrun.Unbounded), inCgroup(parent),
		safeexec.WithGracePeriod(0), safeexec.WithKillTimeout(50*time.Millisecond), safeexec.WithDrainTimeout(50*time.Millisecond))
	require.NoError(t, err)
	testproc.WaitHung(t, file)
	res, err := p.Stop()
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Equal(t, parent, filepath.Dir(res.LeftCgroup))
	n, err := safeexec.RemoveStaleCgroups(parent)
	assert.Zero(t, n)
	require.Error(t, err, "it still cannot be killed")
	pid = p.PID()
}

func BenchmarkContainment(b *testing.B) {
	for name, opt := range map[string]safeexec.Option{
		"none": nil, "cgroup": safeexec.WithContainment(safeexec.ContainmentCgroup),
	} {
		b.Run("rung="+name, func(b *testing.B) {
			for b.Loop() {
				_, err := safeexec.Run(context.Background(), exec.Command("/bin/true"), safeexec.WithTimeout(testrun.Bound), opt)
				if errors.Is(err, safeexec.ErrContainment) {
					b.Skip(err)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
