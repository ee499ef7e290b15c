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

// Deadline returns a context that ends a little before the test's own deadline, so that a test that
// waits for too long can still say what for. Without a deadline of the test it is ten minutes. It is
// canceled when the test ends.
func Deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithDeadline(context.Background(), deadline(t))
	t.Cleanup(cancel)
	return ctx
}

// deadline keeps a tenth of what is left, at most five seconds, for the test to fail in.
func deadline(t testing.TB) time.Time {
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
// more than that, so r needs no buffer. The test fails at its deadline, at the end of r, and on an
// error; what there was of the line is in the message.
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
		t.Fatal("reading a line: nothing came before the test's deadline")
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
		t.Fatal("what was waited for did not come before the test's deadline")
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
