package guard_test

import (
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// The program dies at a system call of each moment.
func TestKilledAtTheMoment(t *testing.T) {
	t.Parallel()
	for moment := range fatal {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			stranger := testproc.NewBystander(t, "sleep")
			for range testproc.Rounds(1) {
				p := start(t, diesAt+moment, script)
				require.Equal(t, "guarded", p.line(t))
				if strings.HasPrefix(moment, "before SIG") {
					require.Equal(t, "started", p.line(t))
					testproc.Wait(t, func() bool { return len(p.canary.Living()) >= 5 })
					p.tell(t, "stop")
				}
				testproc.Wait(t, func() bool { return testproc.Dead(p.Process.Pid) })
				_ = p.Wait()
				assert.Equal(t, syscall.SIGSYS, p.ProcessState.Sys().(syscall.WaitStatus).Signal(), "it died there")
				p.canary.WaitGone(t)
				p.guardGone(t)
			}
			stranger.Untouched(t)
		})
	}
}

// The program dies while its command has the grace period: the guard asks once more, and does not wait for the rest.
func TestKilledInTheGracePeriod(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"of the leader": `trap '[ -z "$asked" ] || exit; asked=1; echo asked' TERM; echo started; while :; do sleep 1; done`,
		// The leader waits, so that it is not left before it can be told. What is left hears the guard at any time: a
		// signal between the trap and the exec would be forgotten.
		"of what is left": `(trap 'trap - TERM; echo asked; exec sleep 7040' TERM; echo started; while :; do sleep 1; done) &
			wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "patient", script)
			require.Equal(t, "started", p.line(t))
			p.tell(t, "stop")
			require.Equal(t, "asked", p.line(t))
			require.NoError(t, p.Process.Kill())
			p.canary.WaitGone(t)
			p.guardGone(t)
			records := p.records(t)
			require.Len(t, records, 1)
			assert.NotContains(t, records[0], "error")
		})
	}
}

// The program dies while its tree forks, and the whole tree ignores SIGTERM.
func TestKilledWhileTheTreeForks(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", `
trap "" TERM
storm() { while :; do (sleep 0.05 & sleep 0.01); done; }
storm & setsid sh -c 'while :; do (sleep 0.05 & sleep 0.01); done' &
echo started
wait
`)
	require.Equal(t, "started", p.line(t))
	testproc.Wait(t, func() bool { return len(p.canary.Living()) >= 5 })
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	p.guardGone(t)
}

// lanes is how many programs die at once.
const lanes = 2

// The program is killed at any moment, with four runs under way of what the tracks find.
func TestKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes half a minute")
	}
	t.Parallel()
	escapee := escapeeProgram(t)
	var hosts, ended, survivors, problems, longest atomic.Int64
	t.Run("lanes", func(t *testing.T) {
		for range lanes {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				stranger := testproc.NewBystander(t, "sleep")
				for range testproc.Rounds(1) {
					t.Run("", func(t *testing.T) {
						began := time.Now()
						p := start(t, "runs", "", escapeeVariable+"="+escapee)
						require.Equal(t, "started", p.line(t))
						within := max(200*time.Millisecond, time.Since(began)) // on a machine of any speed
						time.Sleep(time.Duration(rand.Int64N(int64(within))))
						began = time.Now()
						require.NoError(t, p.Process.Kill())
						p.canary.WaitGone(t)
						p.guardGone(t)
						hosts.Add(1)
						took := int64(time.Since(began))
						for before := longest.Load(); took > before && !longest.CompareAndSwap(before, took); before = longest.Load() {
						}
						for _, r := range p.records(t) {
							ended.Add(1)
							if list, _ := r["survivors"].([]any); len(list) > 0 {
								survivors.Add(int64(len(list)))
							}
							if text, ok := r["error"]; ok {
								problems.Add(1)
								t.Log(text)
							}
						}
					})
				}
				stranger.Untouched(t)
			})
		}
	})
	t.Logf("%d programs killed, %d trees ended by their guards, which logged %d survivors and %d errors; "+
		"longest from the kill to the end of the guard: %v", hosts.Load(), ended.Load(), survivors.Load(), problems.Load(),
		time.Duration(longest.Load()).Round(time.Millisecond))
}

// escapeeProgram returns an escapee's path, nothing where there is no compiler.
func escapeeProgram(t *testing.T) (path string) {
	if _, err := exec.LookPath("gcc"); err != nil {
		return ""
	}
	return testproc.EscapeeProgram(t)
}
