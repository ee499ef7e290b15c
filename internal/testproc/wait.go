package testproc

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for one thing. One that is stuck says so then, and does not use up the time of all
// tests of its package. A soak and an emulated machine have more to do.
const patience = 2 * time.Minute

// Deadline returns a context that ends after two minutes, or a little before the test's own deadline if that is
// earlier, so that a test that waits for too long can still say what for. It is canceled when the test ends.
func Deadline(t testing.TB) context.Context { return until(t, deadline(t)) }

// WholeDeadline is Deadline without the two minutes, for what takes as long as it takes: a compiler, or a test
// binary. Without a deadline of the test it is ten minutes.
func WholeDeadline(t testing.TB) context.Context { return until(t, wholeDeadline(t)) }

func until(t testing.TB, end time.Time) context.Context {
	ctx, cancel := context.WithDeadline(context.Background(), end)
	t.Cleanup(cancel)
	return ctx
}

func deadline(t testing.TB) time.Time {
	whole, own := wholeDeadline(t), time.Now().Add(patience)
	if whole.Before(own) || Soaking() || Emulated() {
		return whole
	}
	return own
}

// wholeDeadline keeps a tenth of what is left, at most five seconds, for the test to fail in.
func wholeDeadline(t testing.TB) time.Time {
	now := time.Now()
	left := 10 * time.Minute
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok { // not a benchmark
		if end, ok := d.Deadline(); ok {
			left = end.Sub(now)
		}
	}
	return now.Add(left - min(left/10, 5*time.Second))
}

// ReadLine reads from r up to the next newline and returns the line without it. It reads no byte
// more than that, so r needs no buffer. The test fails at the deadline, at the end of r, and on an
// error; what there was of the line is in the message, or who of this process's tree there is.
func ReadLine(t testing.TB, r io.Reader) string {
	t.Helper()
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	// The goroutine is left behind if r never returns; the test has failed then.
	go func() {
		line, err := readLine(r)
		done <- result{line, err}
	}()
	timer := time.NewTimer(time.Until(deadline(t)))
	defer timer.Stop()
	select {
	case res := <-done:
		if res.err != nil {
			t.Fatalf("reading a line: %v after %q", res.err, res.line)
		}
		return res.line
	case <-timer.C:
		t.Fatalf("reading a line: none came before the deadline; there are %v", descendants())
		return ""
	}
}

func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := r.Read(b)
		if n == 1 {
			if b[0] == '\n' {
				return string(line), nil
			}
			line = append(line, b[0])
		}
		if err != nil {
			return string(line), err
		}
	}
}

// Ready reads a helper's ready line and returns its numbers: the helper's PID, then those of the
// children it waited for. It fails the test as [ReadLine] does.
func Ready(t testing.TB, r io.Reader) []int {
	t.Helper()
	pids, err := parseReady(ReadLine(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

func parseReady(line string) ([]int, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "ready" {
		return nil, fmt.Errorf("not a ready line: %q", line)
	}
	var pids []int
	for _, f := range fields[1:] {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("not a ready line: %q", line)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Wait waits until ok returns true, which it asks with growing pauses, and fails the test at its deadline.
func Wait(t testing.TB, ok func() bool) {
	t.Helper()
	if !poll(t, ok) {
		t.Fatalf("what was waited for did not come before the deadline; there are %v", descendants())
	}
}

// poll calls ok with growing pauses until it returns true or the test's deadline comes, and reports
// which.
func poll(t testing.TB, ok func() bool) bool {
	t.Helper()
	end := deadline(t)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
	}
	return true
}
