package tree_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() {
	testproc.Roles["subreaper"] = subreaper
}

// A subreaper is what a process finds that adopts orphans and is told to do so by its test.
type subreaperOutcome struct {
	Tracks   safeexec.Tracks
	Left     []int // children after the runs, zombies included, that are not Others
	Others   int   // children of os/exec and of a run that goes on
	Exit     int   // status of the child of os/exec, which had exited before the runs
	Unknown  int   // runs whose status somebody else took
	Problems []string
}

// orphans are commands that leave children to whoever adopts them: dead before the end, of a daemon
// that is killed, and in other sessions.
var orphans = []string{
	`for i in 1 2 3 4 5; do (setsid true &); (true &); done`,
	`(setsid sleep 600 >/dev/null 2>&1 &); (sleep 600 >/dev/null 2>&1 &)`,
	`setsid sh -c '(env -i sleep 600 &) ; exit 0' >/dev/null 2>&1`,
	`sh -c 'sleep 0.01 & exec sleep 600' >/dev/null 2>&1 & sleep 0.05`,
}

// subreaper runs what leaves orphans beside others' children, so many times. Its first argument is who reaps them as
// well.
func subreaper(args []string) int {
	var got subreaperOutcome
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return testproc.Fail(err)
	}
	if err := safeexec.SetSubreaper(); err != nil {
		return testproc.Fail(err)
	}
	var stopReaping atomic.Bool
	reaped := make(chan struct{})
	switch args[0] {
	case "ignore":
		signal.Ignore(syscall.SIGCHLD)
	case "wait":
		go func() {
			defer close(reaped)
			for !stopReaping.Load() {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
	}
	got.others(args[0] == "nobody", func() {
		for range rounds {
			for _, script := range orphans {
				// What it starts before it bears the limit mark is lost where there is no other.
				cmd := exec.Command("sh", "-c", "read go; "+script)
				cmd.Stdin = strings.NewReader("go\n")
				res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute),
					safeexec.WithLinger(10*time.Millisecond))
				got.Tracks = res.Tracks
				switch {
				case errors.Is(err, safeexec.ErrStatusUnknown):
					got.Unknown++
				case err != nil:
					got.Problems = append(got.Problems, err.Error())
				}
			}
		}
	})
	if args[0] == "wait" {
		stopReaping.Store(true)
		<-reaped
	}
	_ = json.NewEncoder(os.Stdout).Encode(got)
	return 0
}

// others calls f, beside children that are not to be reaped if there shall be some: one of os/exec that
// has exited, and runs that go on, one of which leads a tree that has exited.
func (o *subreaperOutcome) others(some bool, f func()) {
	if !some {
		f()
		// Whoever else reaps may be about to.
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if o.Left, _ = procfs.Children(procfs.Self); len(o.Left) == 0 || time.Now().After(end) {
				return
			}
		}
	}
	plain := exec.Command("sh", "-c", "exit 7")
	if err := plain.Start(); err != nil {
		o.Problems = append(o.Problems, err.Error())
		return
	}
	awaitZombie(plain.Process.Pid)
	exited := exec.Command("sh", "-c", "sleep 600 & exit 3")
	hanging := exec.Command("sleep", "600")
	var runs []*safeexec.Process
	for _, cmd := range []*exec.Cmd{exited, hanging} {
		p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithLinger(time.Minute))
		if err != nil {
			o.Problems = append(o.Problems, err.Error())
			return
		}
		runs = append(runs, p)
	}
	awaitZombie(runs[0].PID())
	f()
	children, err := procfs.Children(procfs.Self)
	if err != nil {
		o.Problems = append(o.Problems, err.Error())
	}
	for _, pid := range children {
		st, _ := procfs.ReadStat(pid)
		switch {
		case pid == plain.Process.Pid, pid == runs[0].PID(), pid == runs[1].PID(), st.Session == runs[0].PID():
			o.Others++ // the last is the orphan of a run that goes on
		default:
			o.Left = append(o.Left, pid)
		}
	}
	_ = plain.Wait()
	o.Exit = plain.ProcessState.ExitCode()
	for i, p := range runs {
		res, _ := p.Stop()
		if want := []int{3, -1}[i]; res.ExitCode != want {
			o.Problems = append(o.Problems, "the status of another run was lost")
		}
	}
	if children, _ := procfs.Children(procfs.Self); len(children) > 0 {
		o.Problems = append(o.Problems, "a run that was stopped left a child")
	}
	o.killTree()
}

// killTree ends a tree of os/exec with an orphan in its session.
func (o *subreaperOutcome) killTree() {
	root := exec.Command("sh", "-c", "(sleep 600 & sleep 600 &); exec sleep 600")
	root.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := root.Start(); err != nil {
		o.Problems = append(o.Problems, err.Error())
		return
	}
	for children := 0; children < 3; { // the root and the orphans
		pids, _ := procfs.Children(procfs.Self)
		children = len(pids)
	}
	if _, err := safeexec.KillTree(context.Background(), safeexec.OSProcess(root.Process)); err != nil {
		o.Problems = append(o.Problems, err.Error())
	}
	children, _ := procfs.Children(procfs.Self)
	if len(children) != 1 {
		o.Problems = append(o.Problems, fmt.Sprintf("KillTree left %v", children))
	}
	if err := root.Wait(); err == nil || root.ProcessState.ExitCode() != -1 {
		o.Problems = append(o.Problems, "KillTree took the status of the root")
	}
}

func awaitZombie(pid int) {
	for st, err := procfs.ReadStat(pid); err == nil && st.Alive(); st, err = procfs.ReadStat(pid) {
		time.Sleep(time.Millisecond)
	}
}

func runSubreaper(t *testing.T, reaper string, rounds int) subreaperOutcome {
	t.Helper()
	testproc.HasProgram(t, "setsid")
	testproc.NoLeaks(t)
	cmd := testproc.RoleCommand(t, "subreaper", reaper, strconv.Itoa(rounds))
	canary := testproc.WithCanary(t, cmd)
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	canary.WaitGone(t)
	var got subreaperOutcome
	require.NoError(t, json.Unmarshal(out, &got), "%s", out)
	assert.Empty(t, got.Problems)
	assert.Empty(t, got.Left, "no zombie")
	assert.True(t, got.Tracks.Has(safeexec.TrackAdoption), got.Tracks)
	return got
}

// Orphans that became our children are reaped with their run, and nobody else's children are.
func TestSubreaper(t *testing.T) {
	got := runSubreaper(t, "nobody", testproc.Rounds(2))
	assert.Equal(t, 7, got.Exit)
	assert.Equal(t, 4, got.Others)
	assert.Zero(t, got.Unknown)
}

// Somebody else in the process reaps whatever dies. Statuses may be lost, and nothing waits for ever.
func TestSubreaperBesideAnother(t *testing.T) {
	runSubreaper(t, "wait", testproc.Rounds(2))
}

func TestSubreaperBesideTheKernel(t *testing.T) {
	got := runSubreaper(t, "ignore", testproc.Rounds(2))
	assert.NotZero(t, got.Unknown)
}

// Without being asked nobody adopts.
func TestNoSubreaperUnasked(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("the first process of a PID namespace adopts")
	}
	res, err := safeexec.Run(testproc.Deadline(t), exec.Command("true"))
	require.NoError(t, err)
	assert.False(t, res.Tracks.Has(safeexec.TrackAdoption))
	assert.NotContains(t, res.Tracks.String(), "adoption")
}
