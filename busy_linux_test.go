package safeexec_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// busyInside says, in a PID namespace that was made for it, what TestInsideBusyMachine has to do.
const busyInside = "SAFEEXEC_TEST_BUSY_INSIDE"

// A machine is what a command runs among.
type machine struct {
	name       string
	pidMax     int
	cpus       int // that the kernel says are possible
	idle, load int // processes
	hog        string
}

const (
	spins = `while :; do :; done`
	forks = `while :; do /bin/true; done`
)

// The bounds hold on machines that are large or busy, and where nothing else runs the tree is seen to be empty. Each is a PID namespace
// with a pid_max of its own, Linux 6.14. The soak has the machines at their full size, busy ones among them, and more
// runs.
func TestBusyMachines(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	machines, runs := []machine{
		{"small", 32768, 2, 30, 0, ""},
		{"many CPUs", 131072, 128, 100, 0, ""},
	}, testproc.Rounds(4)
	if testproc.Soaking() {
		machines = []machine{
			{"small", 32768, 2, 30, 0, ""},
			{"large", 32768, 2, 3000, 0, ""},
			{"many PIDs", 4194304, 2, 3000, 0, ""},
			{"many CPUs", 131072, 128, 3000, 0, ""},
			{"many CPUs and few PIDs", 32768, 128, 3000, 0, ""},
			{"busy", 32768, 2, 3000, 8, spins},
			{"busier", 32768, 2, 1000, 16, spins},
			{"forking", 32768, 2, 3000, 16, forks},
		}
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	possible := t.TempDir() + "/possible"
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(possible, fmt.Appendf(nil, "0-%d\n", m.cpus-1), 0o644))
			cmd := exec.CommandContext(testproc.Deadline(t), unshare, "--pid", "--fork", "--mount", "--mount-proc",
				"--kill-child", "sh", "-c", `echo "$1" >/proc/sys/kernel/pid_max 2>&1 || exit 77
mount --bind "$2" /sys/devices/system/cpu/possible || exit 77
"$0" -test.run '^TestInsideBusyMachine$' -test.v; exit $?`, exe, strconv.Itoa(m.pidMax), possible)
			cmd.Env = append(os.Environ(), busyInside+"="+fmt.Sprintf("%d %d %d", m.idle, m.load, runs), "HOG="+m.hog)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() == 77 {
				t.Skipf("there is no such machine to be had: %s", out)
			}
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

func TestInsideBusyMachine(t *testing.T) {
	var idle, load, runs int
	if _, err := fmt.Sscan(os.Getenv(busyInside), &idle, &load, &runs); err != nil {
		t.Skip("is run by TestBusyMachines")
	}
	const timeout, grace, drain = 50 * time.Millisecond, 50 * time.Millisecond, time.Second
	others := exec.Command("sh", "-c", `i=0; while [ $i -lt "$0" ]; do sleep 6000 & i=$((i+1)); done
i=0; while [ $i -lt "$1" ]; do sh -c "$HOG" & i=$((i+1)); done; echo ready; wait`, strconv.Itoa(idle), strconv.Itoa(load))
	out, err := others.StdoutPipe()
	require.NoError(t, err)
	others.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, others.Start())
	defer func() { _ = syscall.Kill(-others.Process.Pid, syscall.SIGKILL); _ = others.Wait() }()
	_, err = out.Read(make([]byte, 6))
	require.NoError(t, err)

	options := []safeexec.Option{safeexec.WithGracePeriod(grace), safeexec.WithDrainTimeout(drain)}
	for _, script := range []string{"true", "setsid sleep 100 & sleep 100"} {
		limit := timeout
		if script == "true" {
			limit = 3 * time.Second
		}
		options := append(options, safeexec.WithTimeout(limit))
		bound, err := safeexec.Bound(options...)
		require.NoError(t, err)
		var worst, sum time.Duration
		unseen, over := 0, 0
		for range runs {
			began := time.Now()
			_, err := safeexec.Run(t.Context(), exec.Command("sh", "-c", script), options...)
			took := time.Since(began)
			if errors.Is(err, safeexec.ErrTreeUnseen) {
				unseen++
			}
			if took > bound {
				over++
			}
			if script != "true" {
				assert.ErrorIs(t, err, safeexec.ErrTimeout)
			} else if !errors.Is(err, safeexec.ErrTreeUnseen) {
				assert.NoError(t, err)
			}
			sum, worst = sum+took, max(worst, took)
		}
		t.Logf("%-30s mean %8v, worst %8v, over %v: %d, unseen: %d of %d",
			script, (sum / time.Duration(runs)).Round(10*time.Microsecond), worst.Round(10*time.Microsecond), bound, over, unseen, runs)
		if testproc.Soaking() {
			assert.Zero(t, over)
		}
		if load == 0 { // how often a proof is to be had among others that are busy is theirs to say
			assert.Zero(t, unseen)
		}
	}
}
