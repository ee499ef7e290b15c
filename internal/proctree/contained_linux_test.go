package proctree

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// containedTree starts a command in a cgroup of its own, and nothing else that tells its processes.
func containedTree(t *testing.T, cmd *exec.Cmd) (*Tree, *cgroup.Leaf) {
	t.Helper()
	leaf, err := cgroup.Make("")
	if err == nil {
		err = leaf.Refusal()
	}
	if err != nil {
		if leaf != nil {
			_ = leaf.Remove(time.Time{})
		}
		t.Skipf("needs a cgroup v2 in which we may start commands: %v", err)
	}
	tree := &Tree{}
	t.Cleanup(func() {
		last, _ := testproc.Deadline(t).Deadline()
		for {
			_ = leaf.Kill()
			if err := leaf.Remove(last); err == nil || time.Now().After(last) {
				assert.NoError(t, err)
				return
			}
		}
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	leaf.Attach(cmd.SysProcAttr)
	began := time.Now()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { tree.Close(); _ = leaf.Kill(); _ = cmd.Wait() })
	tree.Init(Origin{Process: cmd.Process, Started: began, Leaf: leaf})
	return tree, leaf
}

// A process in the cgroup cannot be looked at, for want of a descriptor here. Naming none proves nothing:
// only the kernel's word that the cgroup is empty does. The same goes for a chain in which each forks the
// next and exits before it is looked at.
func TestUnnamedInACgroupIsNotTakenForGone(t *testing.T) {
	skipDisabled(t, "pidfd") // the question has the descriptor then
	testproc.NoLeaks(t)
	cmd := testproc.Command("daemonize")
	tree, leaf := containedTree(t, cmd)
	testproc.WaitState(t, cmd.Process.Pid, "Z")
	for members, sure := tree.All(); len(members) != 1; members, sure = tree.All() { // the one in the middle goes
		require.True(t, sure)
	}
	tree.Close()

	// One descriptor is enough for the list and for a pidfd, and not for the question that follows.
	named, proved := true, true
	withFree(t, 1, func() {
		proved, _ = tree.contained()
		named = tree.namesContained()
	})
	assert.False(t, named)
	assert.False(t, proved)
	proved, vacant := tree.contained()
	assert.True(t, proved)
	assert.False(t, vacant)
	assert.True(t, tree.namesContained())

	tree.Kill(time.Now().Add(time.Minute), func(*Member) {})
	for populated := true; populated; tree.Kill(time.Now().Add(time.Minute), func(*Member) {}) {
		var err error
		populated, err = leaf.Populated()
		require.NoError(t, err)
	}
	members, sure := tree.All()
	assert.Empty(t, members)
	assert.True(t, sure)
	assert.Equal(t, TrackCgroup, tree.Tracks()&TrackCgroup)
}

// That the cgroup is empty needs no proof from /proc, however much the machine forks.
func TestEmptyCgroupIsBelieved(t *testing.T) {
	testproc.NoLeaks(t)
	tree, leaf := containedTree(t, testproc.Command("daemonize"))
	testproc.WaitState(t, tree.leader, "Z")
	var lists int
	fork := forkEachList(t, &lists)
	read := everybody.Read
	everybody.Read = func(r *roll, others int) {
		read(r, others)
		fork(os.Getpid(), anywhere)
	}
	defer func() { everybody.Read = read }()
	tree.born.started = time.Now().Add(-time.Hour) // all are listed
	tree.born.serial = 0
	tree.KillLeaf(func(*Member) {})
	await(t, func() bool {
		populated, err := leaf.Populated()
		return err == nil && !populated
	})
	lists = 0
	members, sure := tree.All()
	assert.Empty(t, members)
	assert.True(t, sure)
	assert.Equal(t, 1, lists, "for those who have left it")
}

// A process that has left the cgroup while it is killed, and cannot be killed, does not stand for those in it.
func TestMoverDoesNotStandForTheCgroup(t *testing.T) {
	testproc.NoLeaks(t)
	tree, leaf := containedTree(t, testproc.Command("hang"))
	mover := start(t, testproc.Command("hang"))
	tree.members = map[int]*Member{mover.cmd.Process.Pid: {
		Process: Process{PID: mover.cmd.Process.Pid}, FD: -1, contained: true,
	}}
	assert.True(t, tree.namesContained(), "it was found there")
	require.NoError(t, leaf.Kill())
	tree.killing = true
	assert.False(t, tree.namesContained())
	delete(tree.members, mover.cmd.Process.Pid)
}

// Quiet thaws the cgroup even if its function has used up the descriptors.
func TestQuietEndsWithoutADescriptor(t *testing.T) {
	testproc.NoLeaks(t)
	tree, leaf := containedTree(t, testproc.Command("hang"))
	frozen := func() string {
		text, err := os.ReadFile(leaf.Dir() + "/cgroup.freeze")
		require.NoError(t, err)
		return string(text)
	}
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	defer func() { assert.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
	tree.Quiet(func() {
		assert.Equal(t, "1\n", frozen())
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}))
	})
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	assert.Equal(t, "0\n", frozen())

	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Max: limit.Max}))
	ran := false
	tree.Quiet(func() { ran = true })
	assert.True(t, ran, "without")
}

// In a cgroup as elsewhere a look has its time once, and says nothing of the one before.
func TestLookInACgroup(t *testing.T) {
	testproc.NoLeaks(t)
	tree, leaf := containedTree(t, testproc.Command("hang"))
	tree.hidden, tree.complete, tree.blurred = map[int]bool{1: true}, true, true
	tree.members = map[int]*Member{os.Getpid(): {Process: Process{PID: os.Getpid()}, FD: -1, contained: true}}
	tree.members[os.Getpid()].Start = Inspect(os.Getpid()).Start
	members, sure := tree.Live()
	assert.Len(t, members, 1)
	assert.True(t, sure)
	assert.Zero(t, tree.Hidden())
	assert.False(t, tree.Complete(), "others were not looked for")
	clear(tree.members)

	require.NoError(t, leaf.Kill())
	await(t, func() bool {
		populated, err := leaf.Populated()
		return err == nil && !populated
	})
	given := time.Now().Add(time.Hour)
	tree.leaving = func(*Member) { tree.lookEnds = given }
	tree.members[1<<22] = &Member{Process: Process{PID: 1 << 22}, FD: -1} // no PID is so high
	members, sure = tree.Live()
	assert.Empty(t, members)
	assert.True(t, sure)
	assert.Equal(t, given, tree.lookEnds, "its time is given to it once")
}
