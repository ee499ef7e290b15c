//go:build linux

package zoo_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// fewPIDs is the pid_max of the namespace in which PIDs are used again all the time. 300 are to be
// had: the kernel keeps the first 300 for later (RESERVED_PIDS).
const fewPIDs = 600

// wrapInside says that a test runs in such a namespace, and until how many laps of its PIDs.
const wrapInside = "SAFEEXEC_TEST_WRAP_INSIDE"

// TestZooWherePIDsAreFew ends trees while strangers are born and die all around them and PIDs are
// used again and again: no signal may reach one of those.
func TestZooWherePIDsAreFew(t *testing.T) {
	skipShort(t)
	t.Parallel()
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is looked for")
	}
	onFewPIDs(t, "TestZooAmongStrangers", testproc.Rounds(5))
}

// onFewPIDs runs a test of this binary in a PID namespace with fewPIDs, until they were used so often. pid_max belongs to the
// namespace since Linux 6.14; before, this would change the machine's.
func onFewPIDs(t *testing.T, test string, laps int) {
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
	cmd := exec.CommandContext(testproc.WholeDeadline(t), unshare, "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", script, exe, strconv.Itoa(fewPIDs), test, left.String())
	cmd.Env = append(os.Environ(), wrapInside+"="+strconv.Itoa(laps))
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
	kinds := []specimen{
		{kind: "fan", n: 10}, {kind: "double-fork", n: 5}, {kind: "mixed", n: 12}, {kind: "respawns", moves: true},
		{kind: "chain", n: 10}, {kind: "hops", n: manyBirths, moves: true}, {kind: "forks-on-term", n: 2, grace: time.Millisecond, moves: true},
	}
	// Each kind both ways, and on until the PIDs have been around so often.
	laps, err := strconv.Atoi(os.Getenv(wrapInside))
	require.NoError(t, err)
	trees := len(kinds) * len(bothWays)
	var running sync.WaitGroup
	var next atomic.Int64
	for range 2 {
		running.Go(func() {
			for !t.Failed() {
				n := int(next.Add(1)) - 1
				if n >= trees && crowd.laps.Load() >= int64(laps) {
					return
				}
				e := kinds[n%len(kinds)]
				t.Run(fmt.Sprint(e, n), func(t *testing.T) { e.run(t, rungs[0], bothWays[n/len(kinds)%2]) })
			}
		})
	}
	running.Wait()
	bystander.Untouched(t)
	born := crowd.unstruck(t)
	t.Logf("%d strangers in %d laps of the PIDs, %d trees", born, crowd.laps.Load(), next.Load()-2)
}

// A churn is a crowd of strangers, most of them of the moment.
type churn struct {
	cmd    *exec.Cmd
	in     *os.File
	laps   atomic.Int64 // how often it has seen the PIDs start anew
	struck []string     // what it says of signals
	born   int
	read   chan struct{} // closed at the end of what it says
}

// startChurn keeps n of them alive.
func startChurn(t *testing.T, n int) *churn {
	t.Helper()
	c := &churn{cmd: exec.Command(testproc.EscapeeProgram(t), "churn", strconv.Itoa(n)), read: make(chan struct{})}
	stdin, in, err := os.Pipe()
	require.NoError(t, err)
	c.in = in
	c.cmd.Stdin = stdin
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	err = c.cmd.Start()
	require.NoError(t, stdin.Close())
	require.NoError(t, err)
	go c.listen(out)
	t.Cleanup(func() {
		c.in.Close()
		<-c.read
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Wait()
		}
	})
	return c
}

// listen takes in what the crowd says, until its end.
func (c *churn) listen(out io.Reader) {
	defer close(c.read)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, n, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "lap":
			c.laps.Add(1)
		case "churned":
			c.born, _ = strconv.Atoi(n)
		case "struck":
			c.struck = append(c.struck, lines.Text())
		}
	}
}

// unstruck ends the crowd, checks that no signal reached anybody, and returns how many there were.
func (c *churn) unstruck(t *testing.T) (born int) {
	t.Helper()
	require.NoError(t, c.in.Close())
	<-c.read
	require.NoError(t, c.cmd.Wait())
	assert.Empty(t, c.struck, "strangers")
	assert.Positive(t, c.born)
	return c.born
}
