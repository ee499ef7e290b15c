package tree_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
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
	atOnce     int // commands
	runs       int // of each command
}

const (
	spins = `while :; do :; done`
	forks = `while :; do /bin/true; done`
)

// fullMachines reports whether a quarter of an hour may be spent on it.
func fullMachines() bool { return os.Getenv("SAFEEXEC_TEST_MACHINES") != "" }

// rowTime is for how long at most one command is run on one machine. The log says how many runs that were.
const rowTime = 65 * time.Second

// The bounds hold on machines that are large or busy, and where nothing else runs the tree is seen to be empty. Each
// is a PID namespace with a pid_max of its own, Linux 6.14. With SAFEEXEC_TEST_MACHINES=1 they have their full
// size, and there are busy ones among them; SAFEEXEC_TEST_SOAK multiplies the runs.
func TestBusyMachines(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	runs := testproc.Rounds(4)
	machines := []machine{
		{"small", 32768, 2, 30, 0, "", 1, runs},
		{"many CPUs", 131072, 128, 100, 0, "", 1, runs},
		{"few PIDs", 400, 2, 30, 0, "", 3, 5 * runs},
	}
	if fullMachines() {
		machines = []machine{
			{"small", 32768, 2, 30, 0, "", 1, runs},
			{"large", 32768, 2, 3000, 0, "", 1, runs},
			{"many PIDs", 4194304, 2, 3000, 0, "", 1, runs},
			{"many CPUs", 131072, 128, 3000, 0, "", 1, runs},
			{"many CPUs, 4 at once", 131072, 128, 3000, 0, "", 4, runs},
			{"many CPUs and PIDs", 4194304, 128, 3000, 0, "", 1, runs},
			{"many CPUs and few PIDs", 32768, 128, 3000, 0, "", 1, runs},
			{"few PIDs", 400, 2, 30, 0, "", 3, 8 * runs},
			{"busy", 32768, 2, 3000, 8, spins, 1, runs},
			{"busier", 32768, 2, 1000, 16, spins, 1, runs},
			{"crowded and busy", 32768, 2, 5000, 16, spins, 1, runs},
			{"forking", 32768, 2, 3000, 16, forks, 1, runs},
		}
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			out, err := onMachine(t, unshare, exe, m).CombinedOutput()
			skipWithout(t, err, out)
			require.NoError(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

// onMachine returns the command that runs TestInsideBusyMachine there.
func onMachine(t *testing.T, unshare, exe string, m machine) *exec.Cmd {
	possible := t.TempDir() + "/possible"
	require.NoError(t, os.WriteFile(possible, fmt.Appendf(nil, "0-%d\n", m.cpus-1), 0o644))
	cmd := exec.CommandContext(testproc.WholeDeadline(t), unshare, "--pid", "--fork", "--mount", "--mount-proc",
		"--kill-child", "sh", "-c", `echo "$1" >/proc/sys/kernel/pid_max 2>&1 || exit 77
mount --bind "$2" /sys/devices/system/cpu/possible || exit 77
"$0" -test.run '^TestInsideBusyMachine$' -test.v; exit $?`, exe, strconv.Itoa(m.pidMax), possible)
	cmd.Env = append(os.Environ(), busyInside+"="+fmt.Sprintf("%d %d %d %d", m.idle, m.load, m.atOnce, m.runs), "HOG="+m.hog)
	return cmd
}

func skipWithout(t *testing.T, err error, out []byte) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skipf("there is no such machine to be had: %s", out)
	}
}

// A command costs the same among thousands of processes as among a few, where nobody has to be looked for. The two
// machines take turns. The verdict is not of time: that is logged.
func TestTrueAmongMany(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	exe, err := os.Executable()
	require.NoError(t, err)
	const few = 30
	many, turns, pidMaxes := 100, testproc.Rounds(1), []int{131072}
	if fullMachines() {
		many, pidMaxes = 3000, []int{32768, 131072, 4194304}
	}
	for _, pidMax := range pidMaxes {
		for _, cpus := range []int{2, 128} {
			t.Run(fmt.Sprintf("pid_max %d, %d CPUs", pidMax, cpus), func(t *testing.T) {
				var took [2]time.Duration
				var turn [2]func() time.Duration
				for i, idle := range []int{few, many} {
					turn[i] = takesTurns(t, onMachine(t, unshare, exe, machine{"", pidMax, cpus, idle, 0, "", 1, 0}))
				}
				for range turns {
					for i, run := range turn {
						took[i] += run()
					}
				}
				each := func(d time.Duration) time.Duration { return d / time.Duration(turns*runsInTurn) }
				t.Logf("true: %v among %d processes, %v among %d: ratio %.3f, %d runs each",
					each(took[0]), few, each(took[1]), many, float64(took[1])/float64(took[0]), turns*runsInTurn)
			})
		}
	}
}

// runsInTurn is how often the command is run before the other machine has its turn.
const runsInTurn = 10

// takesTurns starts cmd and returns what has it run some commands, and says how long they took.
func takesTurns(t *testing.T, cmd *exec.Cmd) func() time.Duration {
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	next := func() time.Duration {
		for lines.Scan() {
			if took, found := strings.CutPrefix(lines.Text(), "took "); found {
				d, err := time.ParseDuration(took)
				require.NoError(t, err)
				return d
			}
		}
		skipWithout(t, cmd.Wait(), nil)
		require.Fail(t, "it ended")
		return 0
	}
	run := func() time.Duration {
		_, err := fmt.Fprintln(in)
		require.NoError(t, err)
		return next()
	}
	next() // its processes are started
	return run
}

func TestInsideBusyMachine(t *testing.T) {
	var idle, load, atOnce, runs int
	if _, err := fmt.Sscan(os.Getenv(busyInside), &idle, &load, &atOnce, &runs); err != nil {
		t.Skip("is run by TestBusyMachines")
	}
	const timeout, grace, drain = 50 * time.Millisecond, 50 * time.Millisecond, time.Second
	// The idle ones read what never comes: that costs a fork each and no program.
	others := exec.Command("sh", "-c", `exec 3<&0; i=0; while [ $i -lt "$0" ]; do read -r nothing <&3 & i=$((i+1)); done
i=0; while [ $i -lt "$1" ]; do sh -c "$HOG" & i=$((i+1)); done; echo ready; wait`, strconv.Itoa(idle), strconv.Itoa(load))
	out, err := others.StdoutPipe()
	require.NoError(t, err)
	_, err = others.StdinPipe()
	require.NoError(t, err)
	others.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, others.Start())
	defer func() { _ = syscall.Kill(-others.Process.Pid, syscall.SIGKILL); _ = others.Wait() }()
	_, err = out.Read(make([]byte, 6))
	require.NoError(t, err)

	if runs == 0 {
		took := time.Duration(0)
		for turns := bufio.NewScanner(os.Stdin); ; {
			if fmt.Printf("took %v\n", took); !turns.Scan() {
				return
			}
			began := time.Now()
			for range runsInTurn {
				_, err := safeexec.Run(t.Context(), exec.Command("true"), safeexec.WithTimeout(time.Minute))
				require.NoError(t, err)
			}
			took = time.Since(began)
		}
	}
	options := []safeexec.Option{safeexec.WithGracePeriod(grace), safeexec.WithDrainTimeout(drain)}
	for _, script := range []string{"true", "setsid sleep 100 & sleep 100"} {
		limit := timeout
		if script == "true" {
			limit = testrun.Bound
			if fullMachines() {
				limit = 3 * time.Second
			}
		}
		options := append(options, safeexec.WithTimeout(limit))
		bound, err := safeexec.Bound(options...)
		require.NoError(t, err)
		var all sync.Mutex
		var worst, sum time.Duration
		begun, done, unseen, over := 0, 0, 0, 0
		end := time.Now().Add(rowTime)
		one := func() {
			began := time.Now()
			_, err := safeexec.Run(t.Context(), exec.Command("sh", "-c", script), options...)
			took := time.Since(began)
			all.Lock()
			defer all.Unlock()
			if errors.Is(err, safeexec.ErrTreeUnseen) {
				if unseen++; load == 0 && !fullMachines() {
					begun-- // what else there is on the machine was in the way: once more
				}
			}
			if took > bound {
				over++
			}
			if script != "true" {
				assert.ErrorIs(t, err, safeexec.ErrTimeout)
			} else if !errors.Is(err, safeexec.ErrTreeUnseen) {
				assert.NoError(t, err)
			}
			done, sum, worst = done+1, sum+took, max(worst, took)
		}
		more := func() bool {
			all.Lock()
			defer all.Unlock()
			begun++
			return begun <= runs && time.Now().Before(end)
		}
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for more() {
					one()
				}
			})
		}
		wg.Wait()
		t.Logf("%-30s mean %8v, worst %8v, over %v: %d, unseen: %d of %d",
			script, (sum / time.Duration(done)).Round(10*time.Microsecond), worst.Round(10*time.Microsecond), bound, over, unseen, done)
		if fullMachines() {
			assert.Zero(t, over)
		}
		if load == 0 { // how often a proof is to be had among others that are busy is theirs to say
			if fullMachines() {
				assert.Zero(t, unseen)
			}
			assert.Less(t, unseen, done)
		}
	}
}
