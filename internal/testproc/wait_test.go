package testproc

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDeadline(t *testing.T) {
	end, ok := Deadline(t).Deadline()
	require.True(t, ok)
	assert.True(t, end.After(time.Now()))
	assert.True(t, Soaking() || Emulated() || time.Until(end) <= patience)
	if own, ok := t.Deadline(); ok {
		assert.True(t, end.Before(own))
		whole, _ := WholeDeadline(t).Deadline()
		assert.False(t, whole.Before(end))
		assert.True(t, whole.Before(own))
	}
}

func TestDeadlineEndsWithTest(t *testing.T) {
	var done <-chan struct{}
	t.Run("test", func(t *testing.T) { done = Deadline(t).Done() })
	<-done
}

func TestReadLine(t *testing.T) {
	r := strings.NewReader("first\n\nready 1 2\nrest")
	assert.Equal(t, "first", ReadLine(t, r))
	assert.Empty(t, ReadLine(t, r))
	assert.Equal(t, []int{1, 2}, Ready(t, r))
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "rest", string(rest), "not a byte more was read")
}

// A failing is recorded instead of failing the test that asks for it.
type failing struct {
	testing.TB
	deadline time.Time
	message  chan string
}

func (f failing) Deadline() (time.Time, bool) { return f.deadline, true }
func (f failing) Helper()                     {}
func (f failing) Fatal(args ...any)           { f.message <- args[0].(string) }
func (f failing) Fatalf(format string, args ...any) {
	f.message <- format
}

func TestReadLineGivesUp(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	f := failing{t, time.Now().Add(time.Millisecond), make(chan string, 1)}
	ReadLine(f, r)
	assert.Contains(t, <-f.message, "deadline")
}

func TestReadLineSaysWhatCame(t *testing.T) {
	f := failing{t, time.Now().Add(time.Minute), make(chan string, 1)}
	ReadLine(f, strings.NewReader("unfinished"))
	assert.Contains(t, <-f.message, "after %q")
}

func TestParseReadyRejects(t *testing.T) {
	for _, line := range []string{"", "ready", "steady 1", "ready x", "ready 1 x"} {
		_, err := parseReady(line)
		assert.Error(t, err, line)
	}
}
