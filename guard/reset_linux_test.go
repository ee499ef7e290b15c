package guard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A process that has neither its limit nor its environment any more is found by its time slice, one without the
// slice by the environment.
func TestMarksThatAreLeft(t *testing.T) {
	testproc.HasProgram(t, "prlimit")
	t.Parallel()
	if testproc.IsDisabled("slice") {
		t.Skip("needs the slice mark")
	}
	for name, shed := range map[string]string{
		"environment": "exec env -i setsid sleep 7020",
		"limit":       "exec prlimit --rttime=unlimited: setsid sleep 7021",
		"both":        "exec env -i prlimit --rttime=unlimited: setsid sleep 7022",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "wait", "("+shed+") & echo started; exec sleep 7023")
			require.Equal(t, "started", p.line(t))
			testproc.Wait(t, func() bool { return len(p.canary.Living()) >= 2 })
			require.NoError(t, p.Process.Kill())
			p.canary.WaitGone(t)
			p.guardGone(t)
		})
	}
}
