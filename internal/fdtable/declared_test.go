//go:build linux

package fdtable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestJobserver(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string][2]int{
		"":                            {},
		"-j4":                         {},
		"k -j4 --jobserver-auth=3,4":  {3, 4},
		"--jobserver-auth=4,3":        {4, 3},
		"--jobserver-auth=4,2":        {},
		" -j --jobserver-auth=13,254": {13, 254},
		"-j --jobserver-fds=5,6":      {5, 6},
		"--jobserver-fds=5,6 -j --jobserver-auth=7,8":    {7, 8},
		"--jobserver-auth=7,8 --jobserver-auth=-2,-2":    {}, // the last one counts
		"--jobserver-auth=fifo:/tmp/GMfifo123":           {},
		"--jobserver-auth=fifo:/tmp/3,4":                 {},
		"-- X=--jobserver-auth=3,4 --jobserver-auth=3,4": {}, // variables
		"--jobserver-auth=0,1":                           {},
		"--jobserver-auth=3":                             {},
		"--jobserver-auth=3,4,5":                         {},
		"--jobserver-auth=3,4x":                          {},
		"--jobserver-auth=99999999999999999999,4":        {},
		"x--jobserver-auth=3,4":                          {},
	} {
		r, w, ok := jobserver(flags)
		if !assert.Equal(t, want != [2]int{}, ok, flags) || !ok {
			continue
		}
		assert.Equal(t, want, [2]int{r, w}, flags)
	}
}

func FuzzJobserver(f *testing.F) {
	f.Add("k -j4 --jobserver-auth=3,4 -- X=1")
	f.Fuzz(func(t *testing.T, flags string) {
		if r, w, ok := jobserver(flags); ok && (r < FirstFD || w < FirstFD) {
			t.Errorf("%d, %d", r, w)
		}
	})
}

// TestBudget has looks that take ten microseconds, and a thousandth of the time for them.
func TestBudget(t *testing.T) {
	t.Parallel()
	const look = 10 * time.Microsecond
	var b budget
	now := time.Now()
	assert.True(t, b.due(now), "the first")
	var spent, passed time.Duration
	for range 100_000 {
		if at := now.Add(passed); b.due(at) {
			b.spent(at, look)
			spent += look
		}
		passed += time.Microsecond
	}
	assert.Equal(t, passed/lookShare, spent)
	assert.True(t, b.due(now.Add(time.Hour)))
	b.spent(now, 0)
	assert.True(t, b.due(now))
}
