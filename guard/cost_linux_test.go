package guard_test

import (
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// BenchmarkRun runs a command with and without a guard in turn, and says how their medians compare.
func BenchmarkRun(b *testing.B) {
	runOnce(b, safeexec.WithGuard()) // starts the guard
	var plain, guarded []time.Duration
	timed := func(opts ...safeexec.Option) time.Duration {
		began := time.Now()
		runOnce(b, opts...)
		return time.Since(began)
	}
	for b.Loop() {
		if len(plain)%2 == 0 {
			plain = append(plain, timed())
			guarded = append(guarded, timed(safeexec.WithGuard()))
		} else {
			guarded = append(guarded, timed(safeexec.WithGuard()))
			plain = append(plain, timed())
		}
	}
	slices.Sort(plain)
	slices.Sort(guarded)
	for name, at := range map[string]int{"/median": 2, "/lower-quartile": 4} {
		b.ReportMetric(float64(guarded[len(guarded)/at])/float64(plain[len(plain)/at]), "guarded:plain"+name)
	}
}

func runOnce(t testing.TB, opts ...safeexec.Option) {
	_, err := safeexec.Run(t.Context(), exec.Command("true"), append(opts, safeexec.WithTimeout(time.Minute))...)
	require.NoError(t, err)
}

// A guarded run allocates next to nothing that a run without does not, the hundredth as the first.
func TestGuardedRunAllocates(t *testing.T) {
	testproc.NoRaceDetector(t)
	runOnce(t, safeexec.WithGuard())
	least := func(opts ...safeexec.Option) uint64 {
		var each []uint64
		for range 50 { // the runtime allocates now and then
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			runOnce(t, opts...)
			runtime.ReadMemStats(&after)
			each = append(each, after.Mallocs-before.Mallocs)
		}
		return slices.Min(each)
	}
	assert.LessOrEqual(t, least(safeexec.WithGuard()), least()+3)
}
