//go:build linux

package zoo_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A rung is a containment that a run may have.
type rung struct {
	name string
	opts []safeexec.Option
	// born says that it knows all of a tree from the first instruction on, all that it knows them
	// whatever they do to themselves.
	born, all bool
}

var rungs = []rung{
	{name: "default"},
	{name: "stopped", born: true, opts: []safeexec.Option{
		safeexec.WithContainment(safeexec.ContainmentExact),
		safeexec.WithCgroupParent("/no/cgroup"), // so that it has to do without
	}},
	{name: "cgroup", born: true, all: true, opts: []safeexec.Option{
		safeexec.WithContainment(safeexec.ContainmentCgroup),
	}},
}

func (r rung) is(other rung) bool { return r.name == other.name }

// toBeHad skips the test where the rung is not to be had, with the reason.
func (r rung) toBeHad(t *testing.T) {
	t.Helper()
	_, err := safeexec.Run(testproc.Deadline(t), exec.Command("true"), r.opts...)
	if errors.Is(err, safeexec.ErrContainment) {
		t.Skip(err)
	}
	require.NoError(t, err)
}

const (
	bySession     = safeexec.TrackSession
	byEnvironment = safeexec.TrackEnvironment
	byLimit       = safeexec.TrackLimit
	bySlice       = safeexec.TrackSlice
)

// onEachRung runs the test on each rung that is to be had, one after the other: a look costs the more
// the more processes there are.
func onEachRung(t *testing.T, test func(t *testing.T, r rung)) {
	t.Helper()
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is looked for")
	}
	for _, r := range rungs {
		t.Run(r.name, func(t *testing.T) {
			r.toBeHad(t)
			test(t, r)
		})
	}
}

// atBirth reports whether the rung finds whoever escapes in the first microseconds.
func (r rung) atBirth(t *testing.T) bool {
	t.Helper()
	if r.born {
		return true
	}
	res, err := safeexec.Run(testproc.Deadline(t), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	return res.Tracks.Has(bySlice)
}

// gated changes the command, unless the rung is sure of it from birth on, so that it begins only when
// open is called: it has been marked then.
func (r rung) gated(t *testing.T, cmd *exec.Cmd) (open func()) {
	t.Helper()
	if r.atBirth(t) {
		return func() {}
	}
	require.NoError(t, cmd.Err)
	in, gate, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { in.Close(); gate.Close() })
	cmd.Args = append([]string{"sh", "-c", `read -r go; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path, cmd.Stdin = "/bin/sh", in
	return func() {
		_, err := gate.WriteString("go\n")
		assert.NoError(t, err)
	}
}

// TestZooWithoutSliceMark runs the default rung once more in a process of its own that does without the
// slice mark, as older kernels have to. It is the zoo again: for a soak, and .ci/run has the mark forced off.
func TestZooWithoutSliceMark(t *testing.T) {
	if !testproc.Soaking() {
		t.Skip("takes as long as the zoo: SAFEEXEC_TEST_SOAK=1")
	}
	t.Parallel()
	if testproc.IsDisabled("slice") || testproc.IsDisabled("sweep") {
		t.Skip("is what all tests run without")
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(testproc.WholeDeadline(t), exe, "-test.run", "^TestZoo(Instant)?$/^default$", "-test.v")
	cmd.Env = append(os.Environ(), testproc.DisableVariable+"="+strings.Join(append(testproc.Disabled(), "slice"), ","))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "instant escapees") {
			t.Log(strings.TrimSpace(line))
		}
	}
	assert.Contains(t, string(out), "--- PASS: TestZoo")
}
