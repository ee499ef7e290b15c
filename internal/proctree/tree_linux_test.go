package proctree

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestLiveFindsChildren(t *testing.T) {
	s := start(t, testproc.Command("fork", "3"))
	pids := testproc.Ready(t, s.stdout)
	assert.Equal(t, s.cmd.Process.Pid, pids[0])
	for range 3 { // each look says the same, and neither the leader nor threads are members
		assert.ElementsMatch(t, pids[1:], s.live())
	}
	for _, m := range s.members() {
		st, err := procfs.ReadStat(m.PID)
		require.NoError(t, err)
		assert.Equal(t, st.StartTime, m.Start)
		assert.Equal(t, st.Comm, m.Name)
		assert.True(t, s.tree.InLeaderGroup(m))
		assert.Equal(t, !testproc.IsDisabled("pidfd"), m.FD >= 0)
	}
	assert.False(t, s.tree.LeaderExited())
	s.endLeader(t)
	assert.ElementsMatch(t, pids[1:], s.live(), "with the leader a zombie")
}

func TestLiveWithoutAnybody(t *testing.T) {
	s := start(t, testproc.Command("hang"))
	testproc.Ready(t, s.stdout)
	assert.Empty(t, s.live(), "the leader's threads are no members")
	s.endLeader(t)
	assert.Empty(t, s.live())
}

// A shell with job control gives each job a group of its own, in the same session.
func TestOtherGroupsOfTheSession(t *testing.T) {
	s := start(t, exec.Command(testproc.HasProgram(t, "bash"), "-c",
		"set -m; sleep 600 & a=$!; sleep 600 & echo ready $$ $a $!; wait"))
	pids := testproc.Ready(t, s.stdout)
	members := s.members()
	assert.ElementsMatch(t, pids[1:], pidsOf(members))
	for _, m := range members {
		assert.False(t, s.tree.InLeaderGroup(m))
	}
	require.NoError(t, s.tree.SignalGroup(syscall.SIGKILL))
	s.tree.WaitLeader()
	assert.ElementsMatch(t, pids[1:], s.live(), "the group signal does not reach them")
	for _, m := range s.members() {
		require.NoError(t, s.tree.Signal(m, syscall.SIGKILL))
	}
	for _, pid := range pids[1:] {
		waitDead(t, pid)
	}
	assert.Empty(t, s.live())
	s.WaitGone(t)
}

// Who calls setsid has left the session, and no more.
func TestOtherSession(t *testing.T) {
	s := start(t, testproc.Command("daemonize"))
	pids := testproc.Ready(t, s.stdout)
	s.tree.WaitLeader()
	await(t, func() bool { return len(s.live()) == 1 }) // the one in between is on its way out
	assert.Equal(t, pids[1:], s.live())
}

func TestZombieMemberIsDead(t *testing.T) {
	s := start(t, exec.Command("sh", "-c", "sleep 600 & echo ready $$ $!; exec sleep 601"))
	pids := testproc.Ready(t, s.stdout)
	testproc.WaitComm(t, pids[0], "sleep") // until then it is a shell, which reaps
	members := s.members()
	require.Equal(t, pids[1:], pidsOf(members))
	require.NoError(t, s.tree.Signal(members[0], syscall.SIGKILL))
	testproc.WaitState(t, pids[1], "Z") // its parent knows of no child
	assert.Empty(t, s.live(), "known before")
	var fresh Tree
	fresh.Init(Origin{Process: s.cmd.Process, Started: s.tree.born.started})
	defer fresh.Close()
	assert.Empty(t, membersOf(&fresh), "and to one who looks for the first time")
}

// The state of such a process is that of its first thread, a zombie, and it runs all the same.
func TestFirstThreadExited(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", firstThreadExits+`=1 "$0" & wait`, exe)
	s := start(t, cmd)
	pid := testproc.Ready(t, s.stdout)[0]
	require.Equal(t, byte('z'), testproc.State(pid))
	assert.Equal(t, []int{pid}, s.live())
	require.NoError(t, s.tree.Signal(s.members()[0], syscall.SIGKILL))
	s.tree.WaitLeader() // sh has reaped it
	assert.Empty(t, s.live())
}

func TestGone(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	testproc.Ready(t, s.stdout)
	m := s.members()[0]
	s.tree.Gone(m)
	assert.Equal(t, -1, m.FD, "its descriptor is closed")
	s.tree.Gone(m)
	assert.Equal(t, []int{m.PID}, s.live(), "one who is not gone is found again")
}

func TestSignalNeverHitsAnother(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	testproc.Ready(t, s.stdout)
	m := s.members()[0]
	// As if the number had been reused: it is that of a process outside of the tree now.
	stranger := exec.Command("sleep", "600")
	require.NoError(t, stranger.Start())
	defer stranger.Wait()
	defer stranger.Process.Kill()
	former := &Member{Process: Process{PID: stranger.Process.Pid, Start: m.Start - 1}, FD: -1}
	assert.ErrorIs(t, s.tree.Signal(former, syscall.SIGKILL), syscall.ESRCH)
	assert.False(t, testproc.Dead(stranger.Process.Pid))

	same := &Member{Process: m.Process, FD: -1}
	assert.NoError(t, s.tree.Signal(same, syscall.SIGKILL))
	waitDead(t, m.PID)
	s.endLeader(t)
	s.WaitGone(t)
}

func TestSignalGroupWithZombieLeader(t *testing.T) {
	s := start(t, testproc.Command("fork", "2"))
	testproc.Ready(t, s.stdout)
	s.endLeader(t)
	assert.True(t, s.tree.Pinned())
	members := s.live()
	assert.Len(t, members, 2)
	assert.NoError(t, s.tree.SignalGroup(syscall.SIGKILL))
	for _, pid := range members {
		waitDead(t, pid) // a little after it let go of the canary
	}
	assert.Empty(t, s.live())
	assert.True(t, s.tree.Pinned())
	assert.Error(t, s.cmd.Wait())
	assert.False(t, s.tree.Pinned())
}

// Somebody else in this program reaps everything, as a wait(-1) does: the number means nothing then.
func TestReapedBySomebodyElse(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pids := testproc.Ready(t, s.stdout)
	member := s.members()[0]
	require.NoError(t, s.cmd.Process.Kill())
	_, err := syscall.Wait4(pids[0], nil, 0, nil)
	require.NoError(t, err)
	assert.False(t, s.tree.Pinned())
	assert.True(t, s.tree.LeaderExited())
	s.tree.WaitLeader() // returns
	if testproc.IsDisabled("pidfd") {
		assert.ErrorIs(t, s.tree.SignalGroup(syscall.SIGKILL), syscall.ESRCH)
		assert.False(t, testproc.Dead(pids[1]), "nothing was sent")
	}
	require.NoError(t, s.tree.Signal(member, syscall.SIGKILL), "what names one process still does")
	s.WaitGone(t)
}

func TestCloseReleasesDescriptors(t *testing.T) {
	testproc.NoLeaks(t)
	s := start(t, testproc.Command("fork", "3"))
	testproc.Ready(t, s.stdout)
	require.Len(t, s.members(), 3)
	require.NoError(t, s.tree.SignalGroup(syscall.SIGKILL))
	s.WaitGone(t)
	s.tree.Close()
	s.tree.Close()
}

// A name may hold what the kernel puts around it.
func TestHostileNames(t *testing.T) {
	sleep, err := os.ReadFile(testproc.HasProgram(t, "sleep"))
	require.NoError(t, err)
	for i, name := range []string{") Z 1 1 1 (", "a b\nc) R 2", "((((((((((((((("} {
		path := filepath.Join(t.TempDir(), name)
		testproc.WriteExecutable(t, path, sleep, 0o755)
		s := start(t, exec.Command("sh", "-c", `"$0" 600 & echo ready $$ $!; wait`, path))
		pids := testproc.Ready(t, s.stdout)
		testproc.WaitComm(t, pids[1], name)
		members := s.members()
		require.Equal(t, pids[1:], pidsOf(members), i)
		p := Inspect(pids[1])
		assert.Equal(t, name, p.Name)
		assert.NotZero(t, p.Start)
		assert.Equal(t, p.Start, members[0].Start)
		require.NoError(t, s.tree.Signal(members[0], syscall.SIGKILL))
		s.tree.WaitLeader() // sh has reaped it: no zombie of such a name is left for others to read
	}
}

func TestInspectNobody(t *testing.T) {
	assert.Equal(t, Process{PID: 1 << 22}, Inspect(1<<22))
}

// Of whom neither a pidfd nor a start time can be had, who gets its number later cannot be told.
func TestNamelessIsNoMember(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	child := testproc.Ready(t, s.stdout)[1]
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}))
	_, sure := s.tree.Live()
	members := len(s.tree.members)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	assert.Zero(t, members)
	assert.False(t, sure)
	assert.Equal(t, []int{child}, s.live(), "as soon as there are descriptors again")
}

// A leader in our session can leave its group for another there, where no group signal may follow it.
func TestLeaderLeavesItsGroup(t *testing.T) {
	python := testproc.HasProgram(t, "python3")
	s := start(t, exec.Command(python, "-c", "import os, time; print('ready', os.getpid(), flush=True); time.sleep(600)"))
	testproc.Ready(t, s.stdout)
	assert.False(t, s.tree.LeaderStrays())

	other := exec.Command("sleep", "600") // our own may be that of a process outside of our PID namespace
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	cmd := exec.Command(python, "-c", `import os, sys, time
os.setpgid(0, int(sys.argv[1]))
print("ready", os.getpid(), flush=True)
time.sleep(600)`, strconv.Itoa(other.Process.Pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	testproc.Ready(t, out)
	var tree Tree
	tree.Init(Origin{Process: cmd.Process, Started: time.Now(), InSession: true})
	defer tree.Close()
	assert.True(t, tree.LeaderStrays())
	assert.NoError(t, tree.SignalLeader(syscall.SIGKILL))
	assert.Error(t, cmd.Wait())
}
