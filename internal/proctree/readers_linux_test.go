package proctree

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A reader of an environment counts once it is left behind, and until it is over: that many are under way says nothing.
func TestReadersCountOnceLeftBehind(t *testing.T) {
	defer func(read func(procfs.Thread, string) (string, procfs.EnvironAnswer, error)) { environOf = read }(environOf)
	var mine, others atomic.Int32
	goOn := make(chan struct{})
	environOf = func(procfs.Thread, string) (string, procfs.EnvironAnswer, error) {
		<-goOn
		return "run", 0, nil
	}
	_, inTime := readRuns(os.Getpid(), time.Millisecond, &mine, &others)
	assert.False(t, inTime)
	assert.Equal(t, []int32{1, 1}, []int32{mine.Load(), others.Load()})
	close(goOn)
	await(t, func() bool { return mine.Load() == 0 && others.Load() == 0 })
	environOf = func(procfs.Thread, string) (string, procfs.EnvironAnswer, error) {
		assert.Zero(t, mine.Load())
		return "run", 0, nil
	}
	value, inTime := readRuns(os.Getpid(), time.Hour, &mine)
	assert.Equal(t, "run", value)
	assert.True(t, inTime)
	assert.Zero(t, mine.Load())
}

// Zombies of the tree are reaped also where the list that others wait for does not come.
func TestReapsWithoutTheListOfOthers(t *testing.T) {
	skipDisabled(t, "limitmark")
	prlimit := testproc.HasProgram(t, "prlimit")
	s := startGated(t, "exit 0")
	s.tree.WaitLeader()
	adopted := exec.Command(prlimit, fmt.Sprintf("--rttime=%d:", s.mark.limit), "true")
	require.NoError(t, adopted.Start())
	testproc.Wait(t, func() bool { return testproc.Dead(adopted.Process.Pid) })

	defer func(read func(*[]int, int)) { deadChildren.Read = read }(deadChildren.Read)
	begun, goOn := make(chan struct{}, 1), make(chan struct{})
	deadChildren.Read = func(*[]int, int) {
		begun <- struct{}{}
		<-goOn
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		list, _ := deadChildren.Take(time.Now().Add(time.Hour))
		list.Release()
	}()
	<-begun
	s.tree.adopts = true
	s.tree.ReapAdopted()
	assert.ErrorIs(t, adopted.Wait(), syscall.ECHILD)
	close(goOn)
	<-over
}
