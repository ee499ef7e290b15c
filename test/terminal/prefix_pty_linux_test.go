package terminal_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Sixteen write to one terminal, in parts that are no lines, and no line is torn.
func TestPrefixOnATerminal(t *testing.T) {
	testproc.NoLeaks(t)
	const writers, lines = 16, 200
	screen := testproc.NewPTY(t)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			w := safeexec.Prefix(screen.Slave(), fmt.Sprintf("%d | ", i))
			for n := range lines {
				for part := range strings.SplitSeq(fmt.Sprintf("a line_ in_ parts_ %d\n", n), "_") {
					_, err := w.Write([]byte(part))
					assert.NoError(t, err)
				}
			}
			assert.NoError(t, w.Close())
		})
	}
	var next [writers]int
	for range writers * lines {
		line := screen.ReadLine(t)
		var who, n int
		_, err := fmt.Sscanf(line, "%d | a line in parts %d", &who, &n)
		require.NoError(t, err, line)
		require.Equal(t, fmt.Sprintf("%d | a line in parts %d", who, next[who]), line)
		next[who]++
	}
	all.Wait()
}
