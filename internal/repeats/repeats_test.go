package repeats

import (
	"bytes"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is remembered is bounded, and what is in use stays.
func TestForgets(t *testing.T) {
	var m Memory
	used := KeyOf(exec.Command("used"))
	stays := m.lastOf(used)
	for i := range 3 * maxCommands {
		m.lastOf(KeyOf(exec.Command("program", strconv.Itoa(i))))
		assert.Same(t, stays, m.lastOf(used))
	}
	assert.Len(t, m.last, maxCommands)
	assert.NotEqual(t, KeyOf(exec.Command("a", "b", "c")), KeyOf(exec.Command("a", "bc")))
}

// An output that differs ends the count, and a short one is never the same.
func TestCounts(t *testing.T) {
	var m Memory
	out := func(b byte, n int) [2]Output {
		return [2]Output{{Total: int64(n), Head: n, Data: bytes.Repeat([]byte{b}, n)}}
	}
	for i, tt := range []struct {
		now  [2]Output
		want Repeat
	}{
		{out('a', Long+1), Repeat{}},
		{out('a', Long+1), Repeat{true, 1}},
		{out('a', Long+1), Repeat{true, 2}},
		{out('b', Long+1), Repeat{false, 2}},
		{out('b', Long), Repeat{}},
		{out('b', Long), Repeat{}},
	} {
		assert.Equal(t, tt.want, m.Compare(Key{}, tt.now)[0], i)
	}
}
