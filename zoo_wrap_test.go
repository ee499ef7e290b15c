//go:build linux

package safeexec_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// fewPIDs is the pid_max of the namespace in which PIDs are used again all the time. 700 are to be
// had: the kernel keeps the first 300 for later (RESERVED_PIDS).
const fewPIDs = 1000

// wrapInside selects the test that is to run in such a namespace.
const wrapInside = "SAFEEXEC_TEST_WRAP_INSIDE"

// TestZooWherePIDsAreFew ends trees while strangers are born and die all around them and each PID is
// used again several times a second: no signal may reach one of those.
func TestZooWherePIDsAreFew(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is looked for")
	}
	onFewPIDs(t, "TestZooAmongStrangers")
}

// onFewPIDs runs a test of this binary in a PID namespace with fewPIDs. pid_max belongs to the
// namespace since Linux 6.14; before, this would change the machine's.
func onFewPIDs(t *testing.T, test string) {
	t.Helper()
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	var major, minor int
	_, err = fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	require.NoError(t, err)
	if major < 6 || major == 6 && minor < 14 {
		t.Skipf("needs a pid_max of the namespace's own, Linux 6.14; this is %s", release)
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	// The shell stays PID 1, and reaps.
	script := `echo "$1" >/proc/sys/kernel/pid_max && "$0" -test.run "^$2\$" -test.v -test.timeout "$3"; exit $?`
	left := time.Minute
	if end, ok := t.Deadline(); ok {
		left = time.Until(end)
	}
	cmd := exec.CommandContext(testproc.Deadline(t), unshare, "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", script, exe, strconv.Itoa(fewPIDs), test, left.String())
	cmd.Env = append(os.Environ(), wrapInside+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: "+test)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "laps") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// TestZooAmongStrangers is run by TestZooWherePIDsAreFew.
func TestZooAmongStrangers(t *testing.T) {
	if os.Getenv(wrapInside) == "" {
		t.Skip("is run by TestZooWherePIDsAreFew")
	}
	crowd := startChurn(t, 12)
	bystander := testproc.NewBystander(t, testproc.EscapeeProgram(t))
	until := time.Now().Add(time.Duration(rounds(5, 60)) * time.Second)
	kinds := []specimen{
		{kind: "fan", n: 10}, {kind: "double-fork", n: 5}, {kind: "mixed", n: 12}, {kind: "respawns", moves: true},
		{kind: "chain", n: 10}, {kind: "hops", n: manyBirths, moves: true}, {kind: "forks-on-term", n: 2, grace: time.Millisecond, moves: true},
	}
	var running sync.WaitGroup
	var trees [2]int
	for i := range trees {
		running.Go(func() {
			for n := i; time.Now().Before(until) && !t.Failed(); n++ {
				e := kinds[n%len(kinds)]
				t.Run(fmt.Sprint(e, n), func(t *testing.T) { e.run(t, rungs[0], bothWays[n/len(kinds)%2]) })
				trees[i]++
			}
		})
	}
	running.Wait()
	bystander.Untouched(t)
	born := crowd.unstruck(t)
	t.Logf("%d laps of the PIDs, %d trees", born/(fewPIDs-300), trees[0]+trees[1])
	assert.Greater(t, born, 3*fewPIDs)
}

// A churn is a crowd of strangers, most of them of the moment.
type churn struct {
	cmd *exec.Cmd
	in  *os.File
	out strings.Builder
}

// startChurn keeps n of them alive.
func startChurn(t *testing.T, n int) *churn {
	t.Helper()
	c := &churn{cmd: exec.Command(testproc.EscapeeProgram(t), "churn", strconv.Itoa(n))}
	stdin, in, err := os.Pipe()
	require.NoError(t, err)
	c.in = in
	c.cmd.Stdin, c.cmd.Stdout = stdin, &c.out
	err = c.cmd.Start()
	require.NoError(t, stdin.Close())
	require.NoError(t, err)
	t.Cleanup(func() {
		c.in.Close()
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Wait()
		}
	})
	return c
}

// unstruck ends the crowd, checks that no signal reached anybody, and returns how many there were.
func (c *churn) unstruck(t *testing.T) (born int) {
	t.Helper()
	require.NoError(t, c.in.Close())
	require.NoError(t, c.cmd.Wait())
	for line := range strings.Lines(c.out.String()) {
		if n, ok := strings.CutPrefix(line, "churned "); ok {
			born, _ = strconv.Atoi(strings.TrimSpace(n))
		} else if strings.HasPrefix(line, "struck ") {
			t.Error("a stranger: ", line)
		}
	}
	return born
}
