package stdio

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// opened returns the streams of a command with one output.
func opened(t *testing.T) *Streams {
	t.Helper()
	c := new(ladder.Climber)
	require.NoError(t, c.Open())
	t.Cleanup(c.Poller.Close)
	all := new(Streams)
	all.Init(c)
	require.NoError(t, all.OpenOutput(1))
	t.Cleanup(func() {
		all.CloseAll()
		testproc.Wait(t, func() bool { return all.ChildEnds.Done() && !all.Each[1].End.Held() })
	})
	return all
}

// The child's end of an output that is captured stays open for a moment, and is closed then, or at the exit, with our
// own.
func TestChildEndIsLetGo(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name   string
		at     time.Time
		exited bool
	}{
		{"in time", now.Add(letGoAfter), false},
		{"at the exit", now, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := opened(t)
			s := &all.Each[1]
			s.Capture(100)
			all.Started(now)
			all.Begin()
			assert.Equal(t, now.Add(letGoAfter), all.Until(now.Add(time.Hour)))
			assert.Equal(t, now, all.Until(now))
			all.Settle(now.Add(letGoAfter - 1))
			assert.False(t, s.End.Hangup(), "its end is not due")

			all.climber.Exited = tt.exited
			all.Settle(tt.at)
			testproc.Wait(t, all.ChildEnds.Done)
			assert.Equal(t, now.Add(time.Hour), all.Until(now.Add(time.Hour)))
			assert.True(t, s.End.Hangup())
			if !tt.exited {
				assert.True(t, s.End.Open() && s.Watched, "the command lives")
			}
			for s.End.Open() { // a hand that had no time has left it open
				all.Pull(1)
				all.Settle(tt.at)
			}
			assert.True(t, s.Out.Ended())
		})
	}
}

// A Writer is told of the end of an output when it comes.
func TestChildEndOfAWriterIsLetGo(t *testing.T) {
	all := opened(t)
	s := &all.Each[1]
	s.Stream(os.Stderr, nil, all.climber.Wake)
	all.Started(time.Now())
	testproc.Wait(t, all.ChildEnds.Done)
	assert.True(t, s.End.Hangup())
}

// What waits in a pipe at the exit is read before our end is closed.
func TestOutputAtTheExit(t *testing.T) {
	all := opened(t)
	s := &all.Each[1]
	s.Capture(100)
	now := time.Now()
	_, err := s.Child.WriteString("last")
	require.NoError(t, err)
	all.Started(now)
	all.Begin()
	all.climber.Exited = true
	all.Settle(now)
	testproc.Wait(t, all.ChildEnds.Done)
	assert.True(t, s.End.Open() && s.Watched)
	for s.End.Open() {
		all.Pull(1)
		all.Settle(now)
	}
	assert.Equal(t, "last", string(s.Summary().Data))
}
