package containment_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["usage-burn"] = usageBurn
	testproc.Roles["usage-peak"] = usagePeak
	testproc.Roles["usage-orphan"] = usageOrphan
}

const (
	burnt = 100 * time.Millisecond // by each burner, as it counts that itself
	// counted is less than any count of that: /proc counts in ticks, two of which can be cut off.
	counted = burnt - 30*time.Millisecond
)

// usageBurn uses the processor, makes a file, and hangs if it is to.
func usageBurn(args []string) int {
	for {
		var used syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
			return testproc.Fail(err)
		}
		if time.Duration(used.Utime.Nano()+used.Stime.Nano()) >= burnt {
			break
		}
	}
	if err := os.WriteFile(args[0], nil, 0o600); err != nil {
		return testproc.Fail(err)
	}
	if len(args) > 1 {
		for { // an empty select is a deadlock to a program without cgo
			time.Sleep(time.Hour)
		}
	}
	return 0
}

// burning returns a shell's command in which "$@" is a burner, $1 its program and $2 its file.
func burning(t testing.TB, script string) (cmd *exec.Cmd, file string) {
	t.Helper()
	role := testproc.RoleCommand(t, "usage-burn")
	file = filepath.Join(t.TempDir(), "burnt")
	cmd = exec.Command("sh", "-c", script, "sh", role.Path, file)
	cmd.Env = role.Env
	return cmd, file
}

// burntAway has the shell wait until the burner is done, whose child it need not be.
const burntAway = `while [ ! -e "$2" ]; do sleep 0.01; done`

// What a command has waited for is counted when it is reaped, however deep.
func TestUsageOfWhatIsWaitedFor(t *testing.T) {
	cmd, _ := burning(t, `sh -c '"$@"; exit 0' sh "$@"; exit 0`)
	res, err := safeexec.Run(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, res.Usage.CPUTime(), counted)
	assert.Equal(t, res.State.UserTime(), res.Usage.User)
	assert.Equal(t, res.State.SystemTime(), res.Usage.System)
	assert.Equal(t, safeexec.UsageSeen, res.Usage.CPU)
	assert.Equal(t, safeexec.UsageSeen, res.Usage.IO)
	assert.Positive(t, res.Usage.Processes)
}

// No process of the tree waits for an orphan. It is seen before it is asked to end.
func TestUsageOfAnOrphan(t *testing.T) {
	for name, opt := range map[string]safeexec.Option{
		"killed": safeexec.WithLinger(time.Millisecond),
		"left":   safeexec.WithBackground(safeexec.BackgroundLeave),
	} {
		t.Run(name, func(t *testing.T) {
			cmd, _ := burning(t, `"$@" hang & `+burntAway)
			canary := testproc.WithCanary(t, cmd)
			res, err := safeexec.Run(testproc.Deadline(t), cmd, opt)
			require.NoError(t, err)
			assert.GreaterOrEqual(t, res.Usage.CPUTime(), counted)
			assert.Equal(t, safeexec.UsageSeen, res.Usage.CPU)
			assert.GreaterOrEqual(t, res.Usage.Processes, 2)
			for _, p := range res.Left {
				_, err := safeexec.KillTree(testproc.Deadline(t), p)
				require.NoError(t, err)
			}
			canary.WaitGone(t)
		})
	}
}

// A process is looked at while the tree lives, and before it is asked to end.
func TestUsageOfWhatIsEnded(t *testing.T) {
	cmd, file := burning(t, `"$@" hang & wait`)
	p, err := safeexec.Start(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	testproc.Wait(t, func() bool { _, err := os.Stat(file); return err == nil })
	used := p.Usage()
	assert.GreaterOrEqual(t, used.CPUTime(), counted)
	assert.Equal(t, safeexec.UsageSeen, used.CPU)
	assert.Equal(t, safeexec.UsageSeen, used.Memory, "of the burner, in /proc")
	assert.Positive(t, used.PeakMemory)
	assert.Equal(t, safeexec.UsageUnknown, used.IO)
	assert.GreaterOrEqual(t, used.Processes, 2)
	res, err := p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.GreaterOrEqual(t, res.Usage.CPUTime(), used.CPUTime())
	assert.GreaterOrEqual(t, res.Usage.PeakMemory, used.PeakMemory)
	assert.Equal(t, res.Usage, p.Usage(), "it is over")
}

// The cgroup counts processes that are neither waited for nor seen.
func TestUsageInACgroup(t *testing.T) {
	parent := cgroupParent(t)
	cmd, _ := burning(t, `("$@" &); `+burntAway)
	res, err := safeexec.Run(testproc.Deadline(t), cmd, inCgroup(parent), safeexec.WithLinger(testrun.Bound))
	require.NoError(t, err)
	assert.Equal(t, safeexec.ContainmentCgroup, res.Containment)
	assert.Equal(t, safeexec.UsageExact, res.Usage.CPU)
	assert.GreaterOrEqual(t, res.Usage.CPUTime(), counted+res.State.UserTime()+res.State.SystemTime())
}

// usageOrphan adopts orphans. It prints the usage of a run whose orphan ended by itself.
func usageOrphan(args []string) int {
	if err := safeexec.SetSubreaper(); err != nil {
		return testproc.Fail(err)
	}
	cmd := exec.Command("sh", "-c", `("$@" &); `+burntAway, "sh", args[0], args[1])
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"=usage-burn")
	return printUsages(cmd)
}

// printUsages runs the commands and prints what each has used.
func printUsages(cmds ...*exec.Cmd) int {
	for _, cmd := range cmds {
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithLinger(testrun.Bound/2))
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(res.Usage)
		}
		if err != nil {
			return testproc.Fail(err)
		}
	}
	return 0
}

// printed returns what a role has printed.
func printed(t testing.TB, role *exec.Cmd) (all []safeexec.Usage) {
	t.Helper()
	out, err := role.Output()
	require.NoError(t, err)
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var u safeexec.Usage
		require.NoError(t, d.Decode(&u))
		all = append(all, u)
	}
	return all
}

func TestUsageOfAnAdoptedOrphan(t *testing.T) {
	role := testproc.RoleCommand(t, "usage-orphan")
	role.Args = append(role.Args, role.Path, filepath.Join(t.TempDir(), "burnt"))
	used := printed(t, role)
	require.Len(t, used, 1)
	assert.GreaterOrEqual(t, used[0].CPUTime(), counted)
	assert.GreaterOrEqual(t, used[0].Processes, 2)
}

// usagePeak runs a large command and a small one, and then the large one beside memory of its own that is larger.
func usagePeak([]string) int {
	n := 2*proctree.Peak() + 64<<20
	size := strconv.FormatInt(n, 10)
	large := func() *exec.Cmd {
		return exec.Command("sh", "-c", "dd if=/dev/zero of=/dev/null bs=$0 count=1 status=none; exit $?", size)
	}
	if status := printUsages(large(), exec.Command("true")); status != 0 {
		return status
	}
	ours := bytes.Repeat([]byte{1}, int(n+n/4))
	status := printUsages(large())
	ours[0] = 0
	// What was to be seen goes first.
	if err := json.NewEncoder(os.Stdout).Encode(safeexec.Usage{PeakMemory: n}); err != nil {
		return testproc.Fail(err)
	}
	return status
}

// The kernel counts our own memory as that of what we start. Where that is more it is not known what it had.
func TestUsagePeakIsNotOurs(t *testing.T) {
	used := printed(t, testproc.RoleCommand(t, "usage-peak"))
	require.Len(t, used, 4)
	large, small, below, size := used[0], used[1], used[2], used[3].PeakMemory
	assert.Equal(t, safeexec.UsageSeen, large.Memory)
	assert.GreaterOrEqual(t, large.PeakMemory, size)
	assert.Less(t, large.PeakMemory, 2*size)
	for _, u := range []safeexec.Usage{small, below} {
		assert.Equal(t, safeexec.UsageUnknown, u.Memory)
		assert.Zero(t, u.PeakMemory)
		assert.Equal(t, safeexec.UsageSeen, u.CPU)
	}
}

func TestUsageOfStorage(t *testing.T) {
	const size = 1 << 20
	writes := func() *exec.Cmd {
		return exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(t.TempDir(), "file"), "bs=65536", "count=16", "status=none")
	}
	plain := writes()
	require.NoError(t, plain.Run())
	if plain.ProcessState.SysUsage().(*syscall.Rusage).Oublock*512 < size {
		t.Skip("needs a file system on a disk for temporary files, and a kernel that counts")
	}
	res, err := safeexec.Run(testproc.Deadline(t), exec.Command("true"))
	require.NoError(t, err)
	assert.Less(t, res.Usage.WrittenBytes, int64(size))
	shell := exec.Command("sh", append([]string{"-c", `"$@"; exit 0`, "sh"}, writes().Args...)...)
	res, err = safeexec.Run(testproc.Deadline(t), shell)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, res.Usage.WrittenBytes, int64(size))
	assert.Equal(t, safeexec.UsageSeen, res.Usage.IO)
}

func TestUsageOfNothing(t *testing.T) {
	res, err := safeexec.Run(testproc.Deadline(t), exec.Command("/no-such-program"))
	require.Error(t, err)
	assert.Zero(t, res.Usage)
}

func TestUsageIsWritten(t *testing.T) {
	u := safeexec.Usage{
		User: time.Second, System: time.Millisecond, CPU: safeexec.UsageExact,
		PeakMemory: 1 << 20, Memory: safeexec.UsageSeen, Processes: 3,
	}
	text, err := json.Marshal(u)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"CPU":"exact"`)
	assert.Contains(t, string(text), `"IO":"unknown"`)
	var again safeexec.Usage
	require.NoError(t, json.Unmarshal(text, &again))
	assert.Equal(t, u, again)
	require.Error(t, again.CPU.UnmarshalText([]byte("guessed")))
	assert.Equal(t, "UsageSource(9)", safeexec.UsageSource(9).String())

	assert.Equal(t, []slog.Attr{
		slog.Duration("cpu", 1001*time.Millisecond), slog.String("cpu_source", "exact"),
		slog.Int64("peak_memory", 1<<20), slog.String("memory_source", "seen"), slog.Int64("processes", 3),
	}, u.LogValue().Group())
	assert.Empty(t, safeexec.Usage{}.LogValue().Group())
}

func TestUsageIsLogged(t *testing.T) {
	var log bytes.Buffer
	_, err := safeexec.Run(testproc.Deadline(t), exec.Command("true"), safeexec.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	require.NoError(t, err)
	var record struct{ Usage map[string]any }
	require.NoError(t, json.Unmarshal(log.Bytes(), &record))
	assert.Contains(t, record.Usage, "cpu")
	assert.Equal(t, "seen", record.Usage["cpu_source"])
}
