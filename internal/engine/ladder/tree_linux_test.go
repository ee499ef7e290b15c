package ladder

import (
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A child leads a session and a tree, and says what it has to say.
type child struct {
	cmd     *exec.Cmd
	started time.Time // not after its start
	out     *os.File
	gate    io.Closer // its descriptor 3
}

// born starts a shell.
func born(t *testing.T, script string) child {
	t.Helper()
	return start(t, testproc.Shell(script))
}

// start starts a command that writes to a pipe of the test's and has another as descriptor 3.
func start(t *testing.T, cmd *exec.Cmd) child {
	t.Helper()
	out, w, err := os.Pipe()
	require.NoError(t, err)
	r, gate, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.ExtraFiles = w, []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	t.Cleanup(func() { out.Close(); gate.Close() })
	started := time.Now()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.Close()
	r.Close()
	return child{cmd, started, out, gate}
}

// enumerates skips a test of processes that have to be found.
func enumerates(t *testing.T) {
	t.Helper()
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is found")
	}
}

// says returns the next line as a number.
func (c child) says(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(testproc.ReadLine(t, c.out))
	require.NoError(t, err)
	return n
}

// ending returns the end of the child's tree, whose waiter looks at everything for itself, a millisecond at a time.
func (c child) ending(t *testing.T) (*Climber, *waiter) {
	t.Helper()
	poller, err := poll.New()
	require.NoError(t, err)
	e := &Climber{Poller: poller}
	e.Tree.Init(proctree.Origin{Process: c.cmd.Process, Started: c.started, Leaving: e.UnwatchMember})
	w := new(waiter)
	w.step = func(until time.Time) {
		for _, event := range e.Await(Earlier(until, time.Now().Add(time.Millisecond))) {
			e.MemberDied(event.Token)
		}
		e.Exited = e.Tree.LeaderExited()
	}
	e.Waiter = w
	t.Cleanup(func() { e.Tree.Close(); poller.Close() })
	return e, w
}

// stubborn starts a program that says which signal it had, and goes on.
//
// A shell would not do: it asks for signals that have come and then reads, so that one that comes in
// between is heard at the end of the read, which is never.
func stubborn(t *testing.T) child {
	t.Helper()
	c := start(t, testproc.Command("hear", "TERM", "CONT"))
	testproc.Ready(t, c.out)
	return c
}

// SIGCONT follows a signal that can be handled, also to the members; SIGKILL comes alone.
func TestStoppedTreeHears(t *testing.T) {
	c := stubborn(t)
	e, _ := c.ending(t)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	testproc.Wait(t, func() bool { return testproc.State(c.cmd.Process.Pid) == 'T' })
	e.SignalTree(syscall.SIGTERM, time.Now().Add(never))
	assert.ElementsMatch(t, []int{15, 18}, []int{c.says(t), c.says(t)})
	assert.Equal(t, SignalBit(syscall.SIGTERM), e.Sent)
	assert.False(t, e.Signaled(), "the leader is no member")

	e.SignalTree(syscall.SIGKILL, time.Now().Add(never))
	e.AwaitEmpty(time.Now().Add(never), syscall.SIGKILL)
	assert.True(t, e.Empty)
	_, err := c.out.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err, "SIGCONT is not heard behind SIGKILL")
}

// A member has the signal too, and is named once it is gone.
func TestMembersAreEnded(t *testing.T) {
	enumerates(t)
	c := born(t, `cat <&3 & echo $!; wait`)
	member := c.says(t)
	e, _ := c.ending(t)
	e.End(Rungs{syscall.SIGTERM, never, never})
	assert.True(t, e.Empty)
	assert.Equal(t, SignalBit(syscall.SIGTERM), e.Sent)
	killed := e.Killed(nil)
	require.Len(t, killed, 1)
	assert.Equal(t, member, killed[0].PID)
	assert.Zero(t, e.Watched())
}

// A gentle signal is sent once; what is not gone by then is looked at once more, and is not empty.
func TestAwaitEmptyEnds(t *testing.T) {
	c := stubborn(t)
	e, w := c.ending(t)
	e.AwaitEmpty(Past, syscall.SIGTERM)
	assert.False(t, e.Empty)
	assert.Empty(t, w.steps, "there is no time to wait")

	w.cut = func(rung syscall.Signal) bool { return rung == syscall.SIGTERM }
	e.AwaitEmpty(time.Now().Add(never), syscall.SIGTERM)
	assert.False(t, e.Empty)
	assert.Empty(t, w.steps, "it is cut short")

	// While SIGKILL is the rung the leader has it, wherever it is.
	e.AwaitEmpty(time.Now().Add(never), syscall.SIGKILL)
	assert.True(t, e.Empty)
	assert.NotEmpty(t, w.steps)
	state, err := c.cmd.Process.Wait()
	require.NoError(t, err)
	assert.Equal(t, syscall.SIGKILL, state.Sys().(syscall.WaitStatus).Signal())
}

// The tree is empty once its last member is gone, and not with its leader.
func TestMembersAreWaitedFor(t *testing.T) {
	enumerates(t)
	c := born(t, `cat <&3 & echo $!`)
	c.says(t)
	e, w := c.ending(t)
	testproc.Wait(t, e.Tree.LeaderExited)
	e.Exited = true
	step := w.step
	w.step = func(until time.Time) {
		if len(w.steps) == 3 {
			assert.Equal(t, !testproc.IsDisabled("pidfd"), e.Watched() == 1)
			assert.NoError(t, c.gate.Close())
		}
		step(until)
	}
	e.AwaitEmpty(time.Now().Add(never), 0)
	assert.True(t, e.Empty)
	assert.GreaterOrEqual(t, len(w.steps), 3)
	assert.Empty(t, e.Killed(nil), "it has ended by itself")
}

// What was born between an earlier wait and SIGKILL, which reaches it by the group's number, is named as well.
func TestNamedBeforeSIGKILL(t *testing.T) {
	enumerates(t)
	const born20 = `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat <&3 & echo $!; done`
	c := born(t, `trap '`+born20+`' USR1; cat <&3 & echo $!; while :; do sleep 0.05; done`)
	born := []int{c.says(t)}
	e, _ := c.ending(t)
	e.AwaitEmpty(Past, 0)
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGUSR1))
	for range 20 {
		born = append(born, c.says(t))
	}
	e.End(Rungs{Kill: never})
	assert.True(t, e.Empty)
	var killed []int
	for _, p := range e.Killed(nil) {
		killed = append(killed, p.PID)
	}
	assert.Subset(t, killed, born)
}

// What has left the group of the leader has the signal as well.
func TestMembersOfOtherGroups(t *testing.T) {
	enumerates(t)
	testproc.HasProgram(t, "setsid")
	c := born(t, `trap '' HUP; setsid sh -c 'trap "" HUP; echo $$; exec cat <&3' & wait`)
	member := c.says(t)
	e, _ := c.ending(t)
	e.End(Rungs{syscall.SIGTERM, never, never})
	assert.True(t, e.Empty)
	assert.Equal(t, SignalBit(syscall.SIGTERM), e.Sent, "nobody had to be killed")
	assert.True(t, slices.ContainsFunc(e.Killed(nil), func(p proctree.Process) bool { return p.PID == member }))
}

// held holds a child as KillTree wants it.
func (c child) held(t *testing.T) *proctree.Root {
	t.Helper()
	root, err := proctree.HoldProcess(c.cmd.Process)
	require.NoError(t, err)
	t.Cleanup(root.Close)
	return root
}

func TestKillTree(t *testing.T) {
	enumerates(t)
	c := born(t, `trap '' TERM; cat <&3 & echo $!; wait`)
	leader, member := c.cmd.Process.Pid, c.says(t)
	end, err := KillTree(t.Context(), c.held(t), Rungs{syscall.SIGTERM, 0, never})
	require.NoError(t, err)
	assert.Empty(t, end.Survivors)
	require.Len(t, end.Killed, 2)
	assert.ElementsMatch(t, []int{leader, member}, []int{end.Killed[0].PID, end.Killed[1].PID})
}

// A tree that there is no more time for is named as it is.
func TestKillTreeCanceled(t *testing.T) {
	enumerates(t)
	c := stubborn(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	end, err := KillTree(ctx, c.held(t), Rungs{syscall.SIGTERM, never, never})
	require.NoError(t, err)
	assert.Empty(t, end.Killed)
	require.Len(t, end.Survivors, 1)
	assert.Equal(t, c.cmd.Process.Pid, end.Survivors[0].PID)
	require.NoError(t, end.Survivors[0].Err)
}

// A cancellation cuts the grace period short, and nothing is sent after that.
func TestKillTreeIsCanceled(t *testing.T) {
	enumerates(t)
	c := stubborn(t)
	ctx, cancel := context.WithCancel(t.Context())
	root := c.held(t)
	ended := make(chan TreeEnd)
	go func() {
		end, err := KillTree(ctx, root, Rungs{syscall.SIGTERM, never, never})
		assert.NoError(t, err)
		ended <- end
	}()
	assert.ElementsMatch(t, []int{15, 18}, []int{c.says(t), c.says(t)})
	cancel()
	end := <-ended
	assert.Empty(t, end.Killed)
	assert.Len(t, end.Survivors, 1)
}
