package tree_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// What left the session, or the parent, while something still tells where it belongs.
func TestKillTreeFinds(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	testproc.NoLeaks(t)
	watched(t)
	sessionLeader := &syscall.SysProcAttr{Setsid: true}
	groupLeader := &syscall.SysProcAttr{Setpgid: true}
	for _, c := range []struct {
		name, script string
		attr         *syscall.SysProcAttr
		track        safeexec.Tracks
	}{
		{"a child in a session of its own", `setsid sleep 600 & echo ready $$ $!; wait`, nil, safeexec.TrackParent},
		{"an orphan in the root's session", `a=$(sleep 600 >/dev/null & echo $!); echo ready $$ $a; exec sleep 600`,
			sessionLeader, safeexec.TrackSession},
		{"an orphan in the root's group", `a=$(sleep 600 >/dev/null & echo $!); echo ready $$ $a; exec sleep 600`,
			groupLeader, safeexec.TrackGroup},
		{"an orphan in a group of its own", `a=$(set -m; sleep 600 >/dev/null & echo $!); echo ready $$ $a; exec sleep 600`,
			sessionLeader, safeexec.TrackSession},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c", c.script)
			cmd.SysProcAttr = c.attr
			p := grow(t, cmd)
			res, err := safeexec.KillTree(testproc.Deadline(t), p.root(), safeexec.WithGracePeriod(testrun.Unbounded))
			require.NoError(t, err)
			p.WaitGone(t)
			assert.ElementsMatch(t, p.pids, testrun.PIDs(res.Killed))
			assert.True(t, res.Tracks.Has(c.track), res.Tracks)
		})
	}
}

// The other members of a shell's job are in the group that the first one leads, and not in its tree.
func TestKillTreeLeavesTheRestOfAJob(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c",
		`set -m; sleep 600 | sh -c 'echo ready $PPID $$; exec sleep 601' & wait`)
	shell := grow(t, cmd)
	second := shell.pids[1]
	first, err := syscall.Getpgid(second)
	require.NoError(t, err)
	require.NotEqual(t, second, first)
	testproc.WaitState(t, first, "S")
	res, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: first})
	require.NoError(t, err)
	assert.Equal(t, []int{first}, testrun.PIDs(res.Killed))
	assert.False(t, testproc.Dead(second))
	assert.False(t, testproc.Dead(shell.cmd.Process.Pid))
	_, err = safeexec.KillTree(testproc.Deadline(t), shell.root())
	require.NoError(t, err)
	shell.WaitGone(t)
}

// The same when the shell is gone, and somebody has adopted them both.
func TestKillTreeLeavesTheRestOfAJobWithoutItsShell(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c", `set -m
		sh -c 'echo $$; exec sleep 600' | sh -c 'read first; echo ready $first $$; exec sleep 601' & disown; exit`)
	shell := grow(t, cmd)
	require.NoError(t, cmd.Wait())
	for i, pid := range shell.pids {
		res, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: pid})
		require.NoError(t, err)
		assert.Equal(t, []int{pid}, testrun.PIDs(res.Killed))
		for _, other := range shell.pids[i+1:] {
			require.False(t, testproc.Dead(other))
		}
	}
	shell.WaitGone(t)
}

func init() {
	testproc.Roles["leave"] = leaveDaemons
}

// leaveDaemons adopts orphans, leaves two daemons of one run, prints their PIDs, and waits for the end of its
// input.
func leaveDaemons([]string) int {
	if err := safeexec.SetSubreaper(); err != nil {
		return testproc.Fail(err)
	}
	const daemon = "$(setsid sh -c 'echo $$; exec sleep 600 <&- >&- 2>&-' &)"
	out, err := safeexec.Output(context.Background(), exec.Command("sh", "-c", "echo ready "+daemon+" "+daemon),
		safeexec.WithTimeout(testrun.Unbounded), safeexec.WithBackground(safeexec.BackgroundLeave))
	if err != nil {
		return testproc.Fail(err)
	}
	_, _ = os.Stdout.Write(out)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// What a run has left is several trees, also where their parent is not the first process.
func TestKillTreeOfOneThatWasLeft(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	testproc.NoLeaks(t)
	in, w, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer w.Close()
	cmd := testproc.RoleCommand(t, "leave")
	cmd.Stdin = in
	p := grow(t, cmd)
	for i, pid := range p.pids {
		res, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: pid})
		require.NoError(t, err)
		assert.Equal(t, []int{pid}, testrun.PIDs(res.Killed))
		for _, other := range p.pids[i+1:] {
			require.False(t, testproc.Dead(other))
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, cmd.Wait())
	p.WaitGone(t)
}
