package proctree

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// firstThreadExits selects, in a process that a test started, a program whose first thread ends while
// the others go on.
const firstThreadExits = "SAFEEXEC_TEST_FIRST_THREAD_EXITS"

func init() {
	if os.Getenv(firstThreadExits) != "" {
		runtime.LockOSThread() // before main, that is to the first thread
	}
}

// endFirstThread prints a ready line once the first thread has ended, and hangs.
func endFirstThread() {
	go func() {
		for testproc.State(os.Getpid()) != 'z' {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("ready", os.Getpid())
		time.Sleep(10 * time.Minute)
		os.Exit(1)
	}()
	syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// remark selects, in a process that a test started, a program that gives itself another slice and another limit, as
// sched_setattr(2) and prlimit(2) let everybody, and becomes the program of its arguments. Its value is a slice and
// perhaps a limit. The program has no environment mark if that is "none".
const remark = "SAFEEXEC_TEST_REMARK"

// someSlice is none that a run has.
const someSlice = 7654321

func becomeRemarked(args []string) error {
	runtime.LockOSThread()
	var slice, limit uint64
	n, _ := fmt.Sscan(os.Getenv(remark), &slice, &limit)
	os.Unsetenv(remark)
	if os.Getenv(Variable) == "none" {
		os.Unsetenv(Variable)
	}
	if slice != 0 {
		s, err := sys.ScheduleOf(0)
		if err == nil {
			err = s.SetSlice(slice)
		}
		if err != nil {
			return err
		}
	}
	if n == 2 {
		_, hard, err := sys.RTTimeLimit(0)
		if err == nil {
			_, err = sys.SetRTTimeLimit(0, limit, hard)
		}
		if err != nil {
			return err
		}
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, args, os.Environ())
}

func TestMain(m *testing.M) {
	if os.Getenv(remark) != "" {
		fmt.Fprintln(os.Stderr, becomeRemarked(os.Args[1:]))
		os.Exit(1)
	}
	if os.Getenv(firstThreadExits) != "" {
		endFirstThread()
	}
	testproc.Disable(sys.Disable)
	testproc.Main(m, testproc.Warm(func() { // what is kept open for the life of the process
		DevNull()
		lastPID()
	}))
}

func skipDisabled(t *testing.T, name string) {
	t.Helper()
	if testproc.IsDisabled(name) {
		t.Skipf("%s=%s", testproc.DisableVariable, name)
	}
}

// A subject is a leader in a session of its own, and its tree.
type subject struct {
	*testproc.Canary
	cmd    *exec.Cmd
	stdin  *os.File
	stdout *os.File
	mark   Mark
	tree   Tree
}

// start starts cmd as a leader. Everything of its session is killed at the end of the test.
func start(t *testing.T, cmd *exec.Cmd) *subject {
	t.Helper()
	s := &subject{Canary: testproc.NewCanary(t), cmd: cmd}
	childIn, stdin, err := os.Pipe()
	require.NoError(t, err)
	stdout, childOut, err := os.Pipe()
	require.NoError(t, err)
	s.stdin, s.stdout = stdin, stdout
	cmd.Stdin, cmd.Stdout = childIn, childOut
	cmd.ExtraFiles = append(cmd.ExtraFiles, s.File())
	cmd.SysProcAttr, err = SessionAttr(cmd.SysProcAttr)
	require.NoError(t, err)
	s.mark.Begin()
	cmd.Env = s.mark.Environ(cmd)
	started := time.Now()
	require.NoError(t, s.mark.Start(cmd.Start))
	s.mark.Limit(cmd.Process.Pid)
	s.tree.Init(Origin{Process: cmd.Process, Started: started, Mark: &s.mark})
	s.tree.MarkBorn()
	childIn.Close()
	childOut.Close()
	s.CloseParent()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			await(t, func() bool { // one look may miss what bears no other mark than its environment
				s.killAll()
				return len(s.members()) == 0
			})
		}
		s.tree.Close()
		s.mark.End()
		cmd.Wait()
		stdin.Close()
		stdout.Close()
	})
	return s
}

// startGated starts a shell script that begins once its shell is marked: what is under way in clone(2) at
// that moment is the hole of the limit mark.
func startGated(t *testing.T, script string, args ...string) *subject {
	t.Helper()
	s := start(t, exec.Command("sh", append([]string{"-c", "read go; " + script}, args...)...))
	_, err := s.stdin.WriteString("\n")
	require.NoError(t, err)
	return s
}

// killAll kills the group and each member. The leader, which is not reaped, pins the group's number.
func (s *subject) killAll() {
	for _, m := range s.members() {
		s.tree.Signal(m, syscall.SIGKILL)
	}
	s.tree.SignalGroup(syscall.SIGKILL)
}

// endLeader kills the leader alone and waits until it is a zombie.
func (s *subject) endLeader(t *testing.T) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Kill())
	s.tree.WaitLeader()
	require.True(t, s.tree.LeaderExited())
}

func (s *subject) live() []int { return pidsOf(s.members()) }

func pidsOf(members []*Member) []int {
	pids := make([]int, 0, len(members))
	for _, m := range members {
		pids = append(pids, m.PID)
	}
	slices.Sort(pids)
	return pids
}

// waitDead waits until the process runs no more. Its first thread may be a zombie before the others are.
func waitDead(t *testing.T, pid int) {
	t.Helper()
	await(t, func() bool {
		st, err := procfs.ReadStat(pid)
		return err != nil || !st.Alive()
	})
}

// await asks again and again, with growing pauses.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	ctx := testproc.Deadline(t)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) {
		require.NoError(t, ctx.Err(), "waited in vain")
		time.Sleep(pause)
	}
}

func (s *subject) members() []*Member { return membersOf(&s.tree) }

// membersOf is Live where nothing hinders the look but a busy machine, whose looks are not all believed.
func membersOf(t *Tree) []*Member {
	for began := time.Now(); time.Since(began) < 5*time.Minute; {
		if members, sure := t.Live(); sure {
			return members
		}
	}
	panic("could not look at the tree")
}

// withFree calls f while the table of descriptors has room for n more.
func withFree(t *testing.T, n int, f func()) {
	t.Helper()
	highest := 0
	fds, err := procfs.FDs(procfs.Self)
	require.NoError(t, err)
	for _, fd := range fds {
		highest = max(highest, fd.FD)
	}
	var fill []*os.File
	for next := 0; next <= highest+n; {
		file, err := os.Open(os.DevNull)
		require.NoError(t, err)
		fill = append(fill, file)
		next = int(file.Fd())
	}
	last := int(fill[len(fill)-1].Fd())
	limit := syscall.Rlimit{}
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	full := limit
	full.Cur = uint64(last) + 1
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &full))
	for _, file := range fill[len(fill)-n:] {
		file.Close()
	}
	f()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	for _, file := range fill[:len(fill)-n] {
		file.Close()
	}
}
