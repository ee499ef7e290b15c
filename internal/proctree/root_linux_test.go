package proctree

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func patient() bool { return false }

// below is the tree of a process that is taken for another program's.
func below(t *testing.T, pid int) *Tree {
	t.Helper()
	root, err := Hold(pid, 0)
	require.NoError(t, err)
	mark, tree := new(Mark), new(Tree)
	mark.BeginBelow()
	tree.InitBelow(root, mark, nil)
	t.Cleanup(func() {
		tree.Close()
		mark.End()
		root.Close()
	})
	return tree
}

func init() { testproc.Roles["within"] = within }

// within says what stands against ending the tree of the PID that is its argument, once no chain of parents leads from
// this process to it, and before any look has found a process.
func within(args []string) int {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return testproc.Fail(err)
	}
	for above := true; above; time.Sleep(time.Millisecond) {
		if above, err = ancestor(func(p int) bool { return p == pid }); err != nil {
			return testproc.Fail(err)
		}
	}
	root, err := Hold(pid, 0)
	if err != nil {
		return testproc.Fail(err)
	}
	mark, tree := new(Mark), new(Tree)
	mark.BeginBelow()
	tree.InitBelow(root, mark, nil)
	fmt.Println("ready", os.Getppid(), tree.notOurs())
	return 0
}

// The session of an orphan of a tree identifies a process below it, even where no look has found it.
func TestWithinATreeThatIsNotLookedAt(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	role := testproc.RoleCommand(t, "within")
	cmd := exec.Command("sh", "-c", `(sh -c 'setsid "$0" "$1"; exec sleep 600' "$0" $$ &); exec sleep 600`, role.Path)
	cmd.Env = role.Env
	s := start(t, cmd)
	line := testproc.ReadLine(t, s.stdout)
	assert.Contains(t, line, "this process is in its tree")
}

// Orphans that left the session are found by the mark of the run of this process that the root leads.
func TestRootLeadsARun(t *testing.T) {
	skipDisabled(t, "limitmark")
	testproc.HasProgram(t, "setsid")
	s := startGated(t, `a=$(setsid sh -c 'echo $$; exec sleep 600 >/dev/null' &); echo ready $$ $a; exec sleep 600`)
	pids := testproc.Ready(t, s.stdout)
	tree := below(t, pids[0])
	require.NoError(t, tree.Gather(patient))
	assert.ElementsMatch(t, pids, pidsOf(membersOf(tree)))

	// The leaders of other programs' runs are not known here.
	liveRuns.Lock()
	clear(liveRuns.ids)
	clear(liveRuns.leaders)
	liveRuns.Unlock()
	for _, pid := range pids {
		_, err := sys.SetRTTimeLimit(pid, s.mark.limit, 1<<64-1) // as before it was marked anew
		require.NoError(t, err)
	}
	tree = below(t, pids[0])
	require.NoError(t, tree.Gather(patient))
	assert.Equal(t, pids[:1], pidsOf(membersOf(tree)))
}

// Ending a part of a live run leaves it to the run as well, however many do so at once: the run goes on
// finding it, by its number.
func TestRootsWithinARun(t *testing.T) {
	skipDisabled(t, "limitmark")
	testproc.HasProgram(t, "setsid")
	s := startGated(t, `a=$(setsid sh -c 'echo $$; exec sleep 600 >/dev/null' &); echo ready $$ $a; exec sleep 600`)
	daemon := testproc.Ready(t, s.stdout)[1]
	for range 3 {
		require.NoError(t, below(t, daemon).Gather(patient))
		soft, _, err := sys.RTTimeLimit(daemon)
		require.NoError(t, err)
		outer, _, _ := runsOf(soft)
		assert.Equal(t, s.mark.id, outer)
		s.only(limitTrack{})
		s.tree.Close()
		s.tree.born.started = time.Time{} // every process is checked
		assert.Equal(t, []int{daemon}, s.live())
	}
}

// All of a run bear its mark. What a run has left, or what is within it, is not the run.
func TestRootBearsTheMarkOfARun(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	s := startGated(t, `a=$(setsid sh -c 'echo $$; exec sleep 600 >/dev/null' &)
		b=$(setsid sh -c 'echo $$; exec sleep 600 >/dev/null' &)
		setsid sleep 600 & echo ready $$ $a $b $!; read x`)
	pids := testproc.Ready(t, s.stdout)
	testproc.WaitComm(t, pids[3], "sleep")
	for _, pid := range pids[1:] {
		tree := below(t, pid)
		require.NoError(t, tree.Gather(patient))
		assert.Equal(t, []int{pid}, pidsOf(membersOf(tree)), "while the leader lives")
		assert.Contains(t, s.live(), pid, "the run finds it as before")
	}
	s.stdin.Close()
	s.tree.WaitLeader()
	for _, pid := range pids[1:] {
		tree := below(t, pid)
		require.NoError(t, tree.Gather(patient))
		assert.Equal(t, []int{pid}, pidsOf(membersOf(tree)), "once it has exited")
		assert.Contains(t, s.live(), pid, "the run finds it as before")
	}
}

// A number that another process has by now is not the root.
func TestRootIsReaped(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	held, err := Hold(pid, 0)
	require.NoError(t, err)
	defer held.Close()
	assert.NotZero(t, held.Start)
	assert.True(t, held.exists())
	tree := below(t, pid)
	require.NoError(t, cmd.Process.Kill())
	waitDead(t, pid)
	assert.True(t, held.exists(), "the zombie has the number")
	assert.True(t, tree.Pinned())
	assert.Empty(t, membersOf(tree))
	require.Error(t, cmd.Wait())
	assert.False(t, held.exists())
	assert.False(t, tree.Pinned())
	assert.Error(t, tree.SignalGroup(syscall.SIGKILL))
	assert.Empty(t, membersOf(tree))
	assert.False(t, tree.mark.LimitRoot(tree.root))
	_, err = Hold(pid, held.Start)
	assert.ErrorIs(t, err, ErrNoProcess)
	_, err = HoldProcess(cmd.Process)
	assert.ErrorIs(t, err, ErrNoProcess)

	// As if the number were reused: a process of another start time.
	other := &Root{Process: Process{PID: os.Getpid(), Start: 1}, fd: -1}
	assert.False(t, other.exists())
}

// An os.Process keeps its pidfd, and a second owner of the number is not taken for it.
func TestHoldProcess(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	root, err := HoldProcess(cmd.Process)
	require.NoError(t, err)
	assert.Equal(t, !testproc.IsDisabled("pidfd"), root.fd >= 0)
	assert.Equal(t, cmd.Process.Pid, root.PID)
	root.Close()
	root.Close()
	require.NoError(t, cmd.Process.Signal(syscall.Signal(0)), "it is as it was")
	found, err := os.FindProcess(cmd.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, found.Release())
	var protected ProtectedError
	_, err = HoldProcess(found)
	assert.ErrorAs(t, err, &protected, "it means nobody any more")
}

// The group is signaled if all of it is known to be of the tree, and else only its members, one by one.
func TestRootGroup(t *testing.T) {
	for _, attr := range []*syscall.SysProcAttr{{Setsid: true}, {Setpgid: true}, nil} {
		cmd := exec.Command("sh", "-c", "sleep 600 & echo ready $$ $!; wait; exec sleep 600")
		cmd.SysProcAttr = attr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		pids := testproc.Ready(t, out)
		tree := below(t, pids[0])
		require.NoError(t, tree.Gather(patient))
		members := membersOf(tree)
		assert.ElementsMatch(t, pids, pidsOf(members))
		leads := attr != nil && attr.Setsid && !testproc.IsDisabled("pidfd")
		if leads && sys.PidfdSignalGroup(tree.root.fd, noSignal) == nil {
			for _, m := range members {
				assert.True(t, tree.InLeaderGroup(m))
			}
			require.NoError(t, tree.SignalGroup(syscall.SIGKILL))
		} else {
			assert.ErrorIs(t, tree.SignalGroup(syscall.SIGKILL), syscall.ESRCH)
			await(t, func() bool {
				tree.Kill(time.Now().Add(time.Second), func(*Member) {})
				return len(membersOf(tree)) == 0
			})
		}
		for _, pid := range pids {
			waitDead(t, pid)
		}
		require.Error(t, cmd.Wait())
	}
}

// Without descriptors the target cannot be identified, nor is it known whether we descend from it.
func TestRootForWantOfDescriptors(t *testing.T) {
	st, err := procfs.ReadStat(os.Getppid())
	require.NoError(t, err)
	target := st.PPID
	if target <= 1 {
		t.Skip("there is no ancestor but the first process and the parent")
	}
	pidfds := 1 // one is taken, and the next is wanting
	if testproc.IsDisabled("pidfd") {
		pidfds = 0
	}
	for free := range 1 + pidfds {
		var held, above error
		withFree(t, free, func() {
			var root *Root
			if root, held = Hold(target, 0); held == nil {
				root.Close()
			}
			if free == 0 {
				_, above = ancestor(func(pid int) bool { return pid == target })
			}
		})
		require.ErrorIs(t, held, syscall.EMFILE, free)
		if free == 0 {
			require.ErrorIs(t, above, syscall.EMFILE)
		}
	}

	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for free := range 1 + pidfds {
		withFree(t, free, func() {
			var root *Root
			if root, err = HoldProcess(cmd.Process); err == nil {
				root.Close()
			}
		})
		require.ErrorIs(t, err, syscall.EMFILE, free)
	}
	tree := below(t, cmd.Process.Pid)
	withFree(t, 0, func() { err = tree.Gather(patient) })
	require.ErrorIs(t, err, syscall.EMFILE)
	require.NoError(t, tree.Gather(patient))
}

// Once it is over nothing more is gathered, however much the tree grows.
func TestGatherEndsWhenItIsOver(t *testing.T) {
	s := startGated(t, `sleep 600 & echo ready $$ $!; read x; sleep 600 & echo ready $!; wait`)
	pids, late := testproc.Ready(t, s.stdout), []int(nil)
	grow := func() {
		_, err := s.stdin.WriteString("\n")
		require.NoError(t, err)
		late = testproc.Ready(t, s.stdout)
	}
	tree := below(t, pids[0])
	require.NoError(t, tree.Gather(func() bool { grow(); return true }))
	assert.Subset(t, pidsOf(tree.list()), pids)
	assert.NotContains(t, tree.members, late[0])
	require.NoError(t, tree.Gather(patient))
	assert.Contains(t, tree.members, late[0])
}
