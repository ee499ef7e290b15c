//go:build linux

package output_test

import (
	"errors"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// flood runs as many commands as are asked for, so many at once, and asserts that none of them ever
// has a pipe that seems to be held, or loses a byte.
func flood(t *testing.T, atOnce, runs int, opts ...safeexec.Option) {
	t.Helper()
	path := testproc.HasProgram(t, "echo")
	var group sync.WaitGroup
	next := make(chan struct{}, runs)
	for range runs {
		next <- struct{}{}
	}
	close(next)
	for range atOnce {
		group.Go(func() {
			for range next {
				res, err := safeexec.Run(t.Context(), exec.Command(path, "hello"),
					safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Bound), safeexec.Options(opts...))
				if errors.Is(err, safeexec.ErrTreeUnseen) {
					t.Log("the machine is too busy for a look to be believed:", err)
					err = nil
				}
				if !assert.NoError(t, err) || !assert.Equal(t, "hello\n", string(res.Stdout.Bytes())) {
					t.Logf("%+v", res)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestManyAtOnce starts more commands than there are processors. A bound that fires while the
// machine is busy proves nothing.
func TestManyAtOnce(t *testing.T) {
	atOnce, runs := 64, testproc.Rounds(96)
	if testproc.Soaking() {
		atOnce = 512
	}
	t.Run("default", func(t *testing.T) { flood(t, atOnce, runs) })
	// Without a linger it meets other children between fork and exec, which have all pipes open.
	t.Run("no_linger", func(t *testing.T) { flood(t, atOnce, runs, safeexec.WithLinger(0)) })
}

// TestManyInARow leaves nothing behind that adds up.
func TestManyInARow(t *testing.T) {
	testproc.NoLeaks(t)
	flood(t, 1, testproc.Rounds(50))
}
