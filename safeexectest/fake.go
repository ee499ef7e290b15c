package safeexectest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A Fake answers for the commands that run with a context of [WithFake], so that no process starts. The zero Fake
// expects none. It belongs to one test; any number of goroutines may use it.
//
// All of a run is real but the process: it checks options, the timeout, the context and Stop end it, it reads
// Readers, writes to Writers and limits output, and the Result and the errors are those of safeexec.
// Options about descriptors, containment, limits and the terminal are checked and have no effect, and
// [safeexec.BackgroundLeave] finds no process to leave. The context of exec.CommandContext does not end the run; that
// of Run does. [Fake.ExpectKillTree] answers KillTree, which ends no command of the Fake.
type Fake struct {
	// Ordered demands that the calls come in the order of the expectations.
	Ordered bool

	mu      sync.Mutex
	expects []*Expectation
	calls   []*record
	t       testing.TB
}

// An Expectation is a command that a [Fake] expects, once unless [Expectation.Times] says otherwise.
type Expectation struct {
	fake    *Fake
	what    string   // how it is named
	args    []string // the command line; nil if match decides
	match   func(args []string) bool
	kill    *KillExpectation // in place of a command line
	outcome Outcome
	left    int
}

// Expect expects a command line: the name that exec.Command was given, and exactly these arguments. It succeeds
// without output unless [Expectation.Return] says otherwise.
func (f *Fake) Expect(name string, args ...string) *Expectation {
	line := append([]string{name}, args...)
	return f.add(&Expectation{what: commandLine(line), args: line})
}

// ExpectFunc expects a command line that match accepts, for one with a part that is not known before. what names
// it where the test fails.
func (f *Fake) ExpectFunc(what string, match func(args []string) bool) *Expectation {
	return f.add(&Expectation{what: what, match: match})
}

func (f *Fake) add(e *Expectation) *Expectation {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.fake, e.left = f, 1
	f.expects = append(f.expects, e)
	return e
}

// Return says what comes of the command.
func (e *Expectation) Return(o Outcome) *Expectation {
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	e.outcome = o
	return e
}

// Times says how often the command is expected, each time with the same outcome.
func (e *Expectation) Times(n int) *Expectation {
	e.fake.mu.Lock()
	defer e.fake.mu.Unlock()
	e.left = n
	return e
}

func (e *Expectation) accepts(args []string) bool {
	switch {
	case e.kill != nil:
		return false
	case e.match != nil:
		return e.match(slices.Clone(args))
	}
	return slices.Equal(e.args, args)
}

// WithFake returns a context with which safeexec.Run, Start, Output, CombinedOutput and KillTree, and a group that is
// made with it, ask fake instead of starting a process. A command that fake does not expect fails the test and is not
// started; one that was expected and did not come fails the test at its end.
func WithFake(t testing.TB, ctx context.Context, fake *Fake) context.Context {
	t.Helper()
	fake.mu.Lock()
	fake.t = t
	fake.mu.Unlock()
	t.Cleanup(func() {
		t.Helper()
		for _, what := range fake.unmet() {
			t.Errorf("safeexectest: expected and not run: %s", what)
		}
	})
	return seam.With(ctx, answers{fake})
}

// unmet names the expectations that are left.
func (f *Fake) unmet() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []string
	for _, e := range f.expects {
		switch {
		case e.left == 1:
			left = append(left, e.what)
		case e.left > 1:
			left = append(left, fmt.Sprintf("%s (%d times)", e.what, e.left))
		}
	}
	return left
}

// A Call is a command that was run.
type Call struct {
	Args     []string // program first; nil for KillTree
	Dir      string
	Env      []string          // nil: that of this process
	Stdin    []byte            // what the command has read so far
	Settings safeexec.Settings // Timeout is 0 where the context alone bounds the run
	Deadline time.Time         // when it was to end, by whichever of the two is earlier

	KillTree safeexec.ProcessInfo // the target of a call of KillTree, of an os.Process the PID alone
}

// record is a call, of which the standard input comes later.
type record struct {
	call  Call
	stdin collector
}

// A collector is a buffer that may be read while it is written.
type collector struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *collector) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *collector) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.buf.Bytes())
}

// Calls returns the commands that were run, in the order of their starts, also those that were not expected.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var calls []Call
	for _, r := range f.calls {
		call := r.call
		call.Stdin = r.stdin.bytes()
		calls = append(calls, call)
	}
	return calls
}

// answers is the face of a Fake that the runs see.
type answers struct{ fake *Fake }

// UnexpectedError says that a Fake did not expect a command. The test has failed.
type UnexpectedError struct{ diff string }

// Error is what was expected instead.
func (e *UnexpectedError) Error() string { return "safeexectest: " + e.diff }

func (a answers) Start(c seam.Call) (seam.Program, error) {
	f := a.fake
	f.mu.Lock()
	r := &record{call: Call{
		Args: slices.Clone(c.Cmd.Args), Dir: c.Cmd.Dir, Env: slices.Clone(c.Cmd.Env), Deadline: c.Deadline,
	}}
	r.call.Settings, _ = c.Settings.(safeexec.Settings)
	if len(r.call.Args) == 0 {
		r.call.Args = []string{c.Cmd.Path}
	}
	e, err := f.take(r, commandLine(r.call.Args), func(e *Expectation) bool { return e.accepts(r.call.Args) })
	if err != nil {
		f.mu.Unlock()
		f.t.Errorf("%v", err)
		return nil, err
	}
	outcome := e.outcome
	f.mu.Unlock()
	if err := outcome.startError(c.Cmd); err != nil {
		return nil, err
	}
	return newProgram(outcome, r), nil
}

// take notes a call and uses up the expectation that it meets, with the lock.
func (f *Fake) take(r *record, what string, accepts func(*Expectation) bool) (*Expectation, error) {
	f.calls = append(f.calls, r)
	for _, e := range f.expects {
		switch {
		case e.left <= 0:
			continue
		case accepts(e):
			e.left--
			return e, nil
		}
		if f.Ordered {
			break
		}
	}
	return nil, &UnexpectedError{f.difference(what, r.call.Args)}
}

// difference says what was run, and what was expected instead, with the lock.
func (f *Fake) difference(what string, args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "unexpected command:\n  run:      %s", what)
	n := 0
	for _, e := range f.expects {
		if e.left <= 0 {
			continue
		}
		n++
		fmt.Fprintf(&b, "\n  expected: %s", e.what)
		if e.args != nil && args != nil {
			writeDifference(&b, e.args, args)
		}
		if f.Ordered {
			break
		}
	}
	if n == 0 {
		b.WriteString("\n  expected: nothing more")
	}
	return b.String()
}

// writeDifference names the first argument in which two command lines differ.
func writeDifference(b *strings.Builder, want, got []string) {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			fmt.Fprintf(b, "\n            argument %d is one too many: %q", i, got[i])
		case i >= len(got):
			fmt.Fprintf(b, "\n            argument %d is missing: %q", i, want[i])
		case want[i] != got[i]:
			fmt.Fprintf(b, "\n            argument %d is %q, not %q", i, got[i], want[i])
		default:
			continue
		}
		return
	}
}

// commandLine names a command line, quoting what is not plain.
func commandLine(args []string) string {
	var words []string
	for _, a := range args {
		if quoted := fmt.Sprintf("%q", a); a == "" || strings.ContainsAny(a, " \t\n\"'\\$") || len(quoted) != len(a)+2 {
			a = quoted
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
