package main

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/safeexectest"
)

func TestMain(m *testing.M) { testproc.Main(m, testproc.Idle(poll.CloseIdle)) }

// expect has a fake answer for a command line.
func expect(fake *safeexectest.Fake, line string, o safeexectest.Outcome) *safeexectest.Expectation {
	return fake.Expect("sh", "-c", line).Return(o)
}

func TestShell(t *testing.T) {
	t.Parallel()
	fake := new(safeexectest.Fake)
	expect(fake, "make", safeexectest.Outcome{Stdout: "done\n"})
	expect(fake, "hang", safeexectest.TimedOut(&safeexec.Report{Verdict: "it waits for a lock"}))
	ctx := safeexectest.WithFake(t, t.Context(), fake)
	assert.Contains(t, shell(ctx, "make"), "\ndone")
	assert.Contains(t, shell(ctx, "hang"), "It was stuck: it waits for a lock")
}

func TestCI(t *testing.T) {
	t.Parallel()
	fake := &safeexectest.Fake{Ordered: true}
	expect(fake, "build", safeexectest.Outcome{Stdout: "a\nb\n"})
	expect(fake, "test", safeexectest.Outcome{Stderr: "no", ExitCode: 3})
	ctx := safeexectest.WithFake(t, t.Context(), fake)
	var out bytes.Buffer
	err := ci(ctx, &out, []string{"build", "test", "deploy"})
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, exit.ExitCode())
	assert.Contains(t, out.String(), "1 | a\n1 | b\n")
	assert.Contains(t, out.String(), "2 | no\n")
	assert.NoError(t, ci(ctx, io.Discard, nil))
}

// The first of two commands hangs, and is left out of the second round. The end of the context ends it.
func TestSchedule(t *testing.T) {
	t.Parallel()
	fake := new(safeexectest.Fake)
	second := make(chan struct{})
	count := 0
	expect(fake, "hang", safeexectest.Outcome{Hangs: true})
	expect(fake, "quick", safeexectest.Outcome{Do: func(safeexectest.Process) int {
		if count++; count == 2 { // the first has ended before the tick
			close(second)
		}
		return 0
	}}).Times(2)
	ctx, cancel := context.WithCancel(safeexectest.WithFake(t, t.Context(), fake))
	defer cancel()
	tick, out, done := make(chan time.Time), newBuffer(), make(chan error)
	go func() { done <- schedule(ctx, out, tick, []string{"hang", "quick"}) }()
	out.await(t, "quick: ")
	tick <- time.Now()
	<-second
	out.await(t, "hang: ") // it was refused
	cancel()
	require.NoError(t, <-done)
	assert.Equal(t, 2, strings.Count(out.text.String(), "hang: "), out.text.String())
}

// A service that fails is started again, until the context ends it.
func TestSupervise(t *testing.T) {
	t.Parallel()
	fake := new(safeexectest.Fake)
	ctx, cancel := context.WithCancel(safeexectest.WithFake(t, t.Context(), fake))
	defer cancel()
	starts := 0
	expect(fake, "server", safeexectest.Outcome{Do: func(p safeexectest.Process) int {
		if starts++; starts == 3 { // one after the other
			cancel()
			<-p.Killed
		}
		_, _ = io.WriteString(p.Stdout, "up\n")
		return 1
	}}).Times(3)
	var out bytes.Buffer
	supervise(ctx, &out, time.Nanosecond, []string{"server"})
	assert.Equal(t, 3, starts)
	assert.Contains(t, out.String(), "server | up\n")
	assert.Len(t, fake.Calls(), 3)
}

// A buffer says what comes.
type buffer struct {
	text  bytes.Buffer // read after the last write
	lines chan string
}

func newBuffer() *buffer { return &buffer{lines: make(chan string, 100)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.lines <- string(p)
	return b.text.Write(p)
}

// await returns once a line that begins so was written.
func (b *buffer) await(t *testing.T, prefix string) {
	t.Helper()
	for !strings.HasPrefix(<-b.lines, prefix) {
		continue
	}
}
