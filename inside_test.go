package safeexec

import (
	"log/slog"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What WithLogger remembers is bounded, and what is in use stays.
func TestLoggerForgets(t *testing.T) {
	o := &logObserver{logger: slog.New(slog.DiscardHandler), last: map[logKey]*lastOutputs{}}
	used := keyOf(exec.Command("used"))
	stays := o.lastOf(used)
	for i := range 3 * maxLogged {
		o.lastOf(keyOf(exec.Command("program", strconv.Itoa(i))))
		assert.Same(t, stays, o.lastOf(used))
	}
	assert.Len(t, o.last, maxLogged)
	assert.NotEqual(t, keyOf(exec.Command("a", "b", "c")), keyOf(exec.Command("a", "bc")))
}

// Once it is known what is owed no pull is without a limit, also where that is nothing: zero would be.
func TestFinalPullsAreLimited(t *testing.T) {
	assert.Zero(t, (&stream{owed: 5}).limit())
	assert.Equal(t, 5, (&stream{final: true, owed: 5}).limit())
	assert.Equal(t, 1, (&stream{final: true}).limit())
	assert.Equal(t, 1, (&stream{final: true, owed: -3}).limit())
}
