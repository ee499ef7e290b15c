//go:build linux

package start_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
	"github.com/seed841d8200/safeexec/safeexectest"
)

// TestProofLosesNoSignal sends signals all the time while commands start. Each is delivered: it
// ends the command once it runs.
func TestProofLosesNoSignal(t *testing.T) {
	testproc.NoLeaks(t)
	safeexectest.NoLeakedFDs(t)
	safeexectest.NoLeakedProcesses(t)
	for range testproc.Rounds(8) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		sent := make(chan int, 1)
		wg.Go(func() { // to our children, as soon as there is one
			for ctx.Err() == nil {
				children, _ := procfs.Children(procfs.Self)
				for _, pid := range children {
					if unix.Kill(pid, unix.SIGTERM) == nil {
						select {
						case sent <- pid:
						default:
						}
						return
					}
				}
				runtime.Gosched()
			}
		})
		res, err := safeexec.Run(ctx, exec.Command("sleep", "600"), safeexec.WithTimeout(testrun.Bound), safeexec.WithFDProof())
		cancel()
		wg.Wait()
		require.Error(t, err)
		require.Len(t, sent, 1)
		assert.Equal(t, res.PID, <-sent)
		assert.Equal(t, safeexec.CauseExited, res.Cause)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
	}
}

// TestProofLeavesNoTrace compares what a proved command sees of itself with one that was not.
func TestProofLeavesNoTrace(t *testing.T) {
	t.Parallel()
	for range 5 {
		var seen [2]string
		for i, opts := range [][]safeexec.Option{nil, {safeexec.WithFDProof()}} {
			res, err := testrun.Run(t, exec.Command("grep", "-E", "^(TracerPid|Sig(Blk|Ign|Cgt|Pnd)|ShdPnd|NoNewPrivs|Cap...):", "/proc/self/status"), opts...)
			require.NoError(t, err)
			assert.Equal(t, i == 1, res.FDsProved)
			seen[i] = res.Stdout.String()
		}
		assert.Equal(t, seen[0], seen[1])
		assert.Contains(t, seen[1], "TracerPid:\t0")
	}
}

// TestProofKilled has SIGKILL meet the command at any time of its start.
func TestProofKilled(t *testing.T) {
	testproc.NoLeaks(t)
	safeexectest.NoLeakedFDs(t)
	safeexectest.NoLeakedProcesses(t)
	for range testproc.Rounds(10) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				children, _ := procfs.Children(procfs.Self)
				for _, pid := range children {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
		})
		res, err := safeexec.Run(context.Background(), exec.Command("sleep", "600"),
			safeexec.WithTimeout(testrun.Bound), safeexec.WithFDProof())
		close(stop)
		wg.Wait()
		require.Error(t, err)
		if res.PID != 0 { // else os/exec's own start was met, or the probe of a refusal
			assert.Equal(t, syscall.SIGKILL, res.Signal)
		}
	}
}

// TestProofAtTheDeadline has the timeout, or a cancellation, fall anywhere into the start.
func TestProofAtTheDeadline(t *testing.T) {
	testproc.NoLeaks(t)
	safeexectest.NoLeakedFDs(t)
	safeexectest.NoLeakedProcesses(t)
	for i := range testproc.Rounds(20) {
		canary := testproc.NewCanary(t)
		cmd := testproc.Command("hang")
		cmd.ExtraFiles = []*os.File{canary.File()}
		_, err := safeexec.Run(context.Background(), cmd, safeexec.WithFDProof(),
			safeexec.WithTimeout(time.Duration(1+7*i%60)*50*time.Microsecond), safeexec.WithGracePeriod(0))
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		canary.WaitGone(t)
	}
}

// TestProofManyAtOnce has threads of many starts trace side by side.
func TestProofManyAtOnce(t *testing.T) {
	testproc.NoLeaks(t)
	safeexectest.NoLeakedFDs(t)
	safeexectest.NoLeakedProcesses(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 5 {
				res, err := testrun.Run(t, exec.Command("true"), safeexec.WithFDProof())
				assert.NoError(t, err)
				assert.True(t, res.FDsProved)
			}
		})
	}
	wg.Wait()
}
