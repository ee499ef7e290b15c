package tree_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["killtree"] = killTreeOf
}

// killTreeOf ends the tree of the PID that is its argument, and prints what came of it. With a second
// argument it waits before until no chain of parents leads to that PID.
func killTreeOf(args []string) int {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return testproc.Fail(err)
	}
	for len(args) > 1 && slices.Contains(ancestors(), pid) {
		time.Sleep(time.Millisecond)
	}
	res, err := safeexec.KillTree(context.Background(), safeexec.ProcessInfo{PID: pid}, safeexec.WithGracePeriod(0),
		safeexec.WithKillTimeout(100*time.Millisecond))
	got := killTreeOutcome{Killed: testrun.PIDs(res.Killed)}
	for _, s := range res.Survivors {
		got.Survivors = append(got.Survivors, s.PID)
		if s.Err != nil {
			got.Reasons = append(got.Reasons, s.Err.Error())
		}
	}
	if err != nil {
		got.Err = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(got)
	return 0
}

// ancestors lists those of this process, but the first process.
func ancestors() []int {
	var pids []int
	for pid := os.Getppid(); pid > 1; {
		pids = append(pids, pid)
		st, err := procfs.ReadStat(pid)
		if err != nil {
			break
		}
		pid = st.PPID
	}
	return pids
}

type killTreeOutcome struct {
	Killed, Survivors []int
	Reasons           []string
	Err               string
}

func TestKillTreeIsDead(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("true")
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	testproc.WaitState(t, pid, "Z")
	for _, target := range []safeexec.Target{safeexec.OSProcess(cmd.Process), safeexec.ProcessInfo{PID: pid}} {
		testproc.Wait(t, func() bool { // until the machine is not too busy for the first look to be believed
			res, err := safeexec.KillTree(testproc.Deadline(t), target)
			assert.Empty(t, res.Killed)
			return errors.Is(err, safeexec.ErrNoProcess)
		})
	}
	require.NoError(t, cmd.Wait(), "it was not reaped")
	for _, target := range []safeexec.Target{safeexec.OSProcess(cmd.Process), safeexec.ProcessInfo{PID: 1 << 30}} {
		_, err := safeexec.KillTree(testproc.Deadline(t), target)
		require.ErrorIs(t, err, safeexec.ErrNoProcess)
		require.ErrorIs(t, err, os.ErrProcessDone)
	}
}

// A zombie that nobody reaps goes on pinning its session.
func TestKillTreeOfAZombie(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("sh", "-c", `sleep 600 & echo ready $$ $!`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := grow(t, cmd)
	testproc.WaitState(t, p.pids[0], "Z")
	res, err := safeexec.KillTree(testproc.Deadline(t), p.root())
	require.NoError(t, err)
	p.WaitGone(t)
	assert.Equal(t, p.pids[1:], testrun.PIDs(res.Killed))
}

// A number that means another process by now.
func TestKillTreeOtherStartTime(t *testing.T) {
	testproc.NoLeaks(t)
	p := grow(t, testproc.Command("hang"))
	st, err := procfs.ReadStat(p.pids[0])
	require.NoError(t, err)
	for _, start := range []uint64{st.StartTime - 1, st.StartTime + 1, 1} {
		res, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: p.pids[0], StartTicks: start})
		require.ErrorIs(t, err, safeexec.ErrNoProcess)
		assert.Empty(t, res.Killed)
	}
	assert.False(t, testproc.Dead(p.pids[0]))
	_, err = safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: p.pids[0], StartTicks: st.StartTime})
	require.NoError(t, err)
	p.WaitGone(t)
}

func TestKillTreeThread(t *testing.T) {
	testproc.NoLeaks(t)
	p := grow(t, testproc.Command("hang"))
	tids, err := procfs.Threads(p.pids[0])
	require.NoError(t, err)
	require.Greater(t, len(tids), 1)
	_, err = safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: tids[len(tids)-1]})
	require.ErrorIs(t, err, safeexec.ErrNoProcess)
	assert.False(t, testproc.Dead(p.pids[0]))
}

func TestKillTreeProtected(t *testing.T) {
	testproc.NoLeaks(t)
	targets := append(ancestors(), -1, 0, 1, os.Getpid())
	if st, err := procfs.ReadStat(2); err == nil && st.Comm == "kthreadd" {
		targets = append(targets, 2)
	}
	for _, pid := range targets {
		res, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: pid})
		require.ErrorIs(t, err, safeexec.ErrProtected, pid)
		assert.Empty(t, res.Killed)
		assert.Empty(t, res.Survivors)
	}
}

// No chain of parents leads from this process to the root, and it is in the tree all the same: in its
// session, or below somebody who is in there.
func TestKillTreeContainsUs(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	testproc.NoLeaks(t)
	for name, script := range map[string]string{
		"in its session": `echo ready $$; ("$0" $$ orphan &); exec sleep 600`,
		"below an orphan": `echo ready $$
			(sh -c 'setsid "$0" "$1" orphan; exec sleep 600' "$0" $$ &); exec sleep 600`,
	} {
		t.Run(name, func(t *testing.T) {
			role := testproc.RoleCommand(t, "killtree")
			cmd := exec.Command("sh", "-c", script, role.Path)
			cmd.Env = role.Env
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			p := grow(t, cmd)
			var got killTreeOutcome
			require.NoError(t, json.Unmarshal([]byte(testproc.ReadLine(t, p.out)), &got))
			assert.Contains(t, got.Err, "this process is in its tree")
			assert.Empty(t, got.Killed)
			assert.False(t, testproc.Dead(p.pids[0]))
			_, err := safeexec.KillTree(testproc.Deadline(t), p.root())
			require.NoError(t, err)
			p.WaitGone(t)
		})
	}
}

// Another user's processes are named, with the reason.
func TestKillTreeNotPermitted(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to be two users")
	}
	testproc.NoLeaks(t)
	p := grow(t, testproc.Command("fork", "1"))
	role := testproc.RoleCommand(t, "killtree", strconv.Itoa(p.pids[0]))
	role.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	role.Dir = "/"
	exe := publicCopy(t, role.Path)
	role.Path, role.Args[0] = exe, exe
	out, err := role.Output()
	require.NoError(t, err, "%s", out)
	var got killTreeOutcome
	require.NoError(t, json.Unmarshal(out, &got), "%s", out)
	assert.ElementsMatch(t, p.pids, got.Survivors)
	assert.Equal(t, []string{"operation not permitted", "operation not permitted"}, got.Reasons)
	assert.Contains(t, got.Err, "processes survived; operation not permitted")
	assert.Empty(t, got.Killed)
	assert.False(t, testproc.Dead(p.pids[0]))
}

// publicCopy returns the path of a program that every user may run.
func publicCopy(t *testing.T, path string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "safeexec") //nolint:usetesting // TempDir lies in a directory of the user's own
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	path = dir + "/program"
	testproc.WriteExecutable(t, path, text, 0o755)
	return path
}

// The target is named on every path, whatever it is given as.
func TestKillTreeNamesTheTarget(t *testing.T) {
	process := safeexec.ProcessInfo{PID: 1 << 30, StartTicks: 7, Name: "gone"}
	elsewhere := safeexec.ProcessInfo{PID: os.Getpid(), BootID: "another boot", Name: "elsewhere"}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		target safeexec.Target
		want   safeexec.ProcessInfo
		err    error
	}{
		"ProcessInfo":   {t.Context(), process, process, safeexec.ErrNoProcess},
		"Holder":        {t.Context(), safeexec.Holder{ProcessInfo: process}, process, safeexec.ErrNoProcess},
		"ReportProcess": {t.Context(), safeexec.ReportProcess{ProcessInfo: process}, process, safeexec.ErrNoProcess},
		"pointer":       {t.Context(), &safeexec.Holder{ProcessInfo: process}, process, safeexec.ErrNoProcess},
		"another boot":  {t.Context(), safeexec.Holder{ProcessInfo: elsewhere}, elsewhere, safeexec.ErrNoProcess},
		"OSProcess": {
			t.Context(), safeexec.OSProcess(&os.Process{Pid: 1 << 30}), safeexec.ProcessInfo{PID: 1 << 30}, safeexec.ErrNoProcess,
		},
		"canceled": {canceled, safeexec.Holder{ProcessInfo: process}, process, safeexec.ErrCanceled},
	} {
		res, err := safeexec.KillTree(test.ctx, test.target)
		require.ErrorIs(t, err, test.err, name)
		assert.Equal(t, test.want, res.Root, name)
		var e *safeexec.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, test.want.PID, e.PID, name)
		assert.Equal(t, test.want.Name, e.Program, name)
	}
}

func TestKillTreeConfig(t *testing.T) {
	target := safeexec.ProcessInfo{PID: 1 << 30}
	for name, call := range map[string]func() error{
		"ctx":       func() error { _, err := safeexec.KillTree(context.Context(nil), target); return err },
		"target":    func() error { _, err := safeexec.KillTree(context.Background(), nil); return err },
		"OSProcess": func() error { _, err := safeexec.KillTree(context.Background(), safeexec.OSProcess(nil)); return err },
		"WithGracePeriod": func() error {
			_, err := safeexec.KillTree(context.Background(), target, safeexec.WithGracePeriod(-1))
			return err
		},
		"WithKillTimeout": func() error {
			_, err := safeexec.KillTree(context.Background(), target, safeexec.WithKillTimeout(-1))
			return err
		},
		"WithTermSignal": func() error {
			_, err := safeexec.KillTree(context.Background(), target, safeexec.WithTermSignal(0))
			return err
		},
	} {
		var config *safeexec.ConfigError
		require.ErrorAs(t, call(), &config, name)
		assert.Equal(t, name, config.Name)
	}
	// House rules for runs are no reason to refuse.
	_, err := safeexec.KillTree(context.Background(), target, safeexec.WithTimeout(-1), safeexec.WithOutputLimit(-1))
	require.ErrorIs(t, err, safeexec.ErrNoProcess)
	assert.True(t, strings.HasPrefix(err.Error(), "killtree (pid 1073741824): no such process"), err)
}
