package testproc

import (
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// leakVariable selects what TestLeaky leaves behind; set only in a test binary that a test started.
const leakVariable = "SAFEEXEC_TEST_LEAK"

func TestMain(m *testing.M) {
	switch os.Getenv(leakVariable) {
	case "goroutine", "descriptor", "zombie", "child", "child after a failure":
		settleBound = 200 * time.Millisecond // it is waited for in vain
	case "unused helper":
		Main(noTests{}, Uses("hang"))
	case "goroutine at the start":
		Main(noTests{}, Warm(func() { go func() { select {} }() }))
	}
	Main(m, Uses(Helpers()...))
}

// noTests is a run of all tests of a package that has none.
type noTests struct{}

func (noTests) Run() int {
	flag.Parse()
	return 0
}

// rerun starts this test binary once more with the test that leaks, and returns its output and
// status.
func rerun(t *testing.T, leak string, args ...string) (string, int) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(Deadline(t), exe, args...)
	cmd.Env = append(os.Environ(), leakVariable+"="+leak)
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestUnusedHelperFailsFullRun(t *testing.T) {
	out, code := rerun(t, "unused helper")
	assert.Equal(t, 1, code)
	assert.Contains(t, out, `helper "hang" is declared but no test starts it`)
}

func TestUnusedHelperPassesAList(t *testing.T) {
	out, code := rerun(t, "unused helper", "-test.list=^TestUnused")
	assert.Zero(t, code, out)
}

func TestUnusedHelperPassesPartialRun(t *testing.T) {
	for _, arg := range []string{"-test.run=X", "-test.skip=X", "-test.short"} {
		out, code := rerun(t, "unused helper", arg)
		assert.Zero(t, code, "%s: %s", arg, out)
	}
}

func TestWarmIsNoLeak(t *testing.T) {
	out, code := rerun(t, "goroutine at the start")
	assert.Zero(t, code, out)
}

func TestHelperWithoutSelectorRunsNoTests(t *testing.T) {
	cmd := Command("hang")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 125, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(out), Selector)
}

func TestCommandUnknown(t *testing.T) {
	assert.Panics(t, func() { Command("no-such-helper") })
}
