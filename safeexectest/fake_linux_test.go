//go:build linux

package safeexectest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

// long is a timeout that no test waits for.
const long = time.Hour

var bounded = safeexec.WithTimeout(long)

// fakeOne returns a context in which one command comes to an outcome.
func fakeOne(t *testing.T, o Outcome) context.Context {
	fake := new(Fake)
	fake.Expect("tool").Return(o)
	return WithFake(t, t.Context(), fake)
}

func TestFakeRun(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	fake.Expect("git", "fetch", "--all").Return(Outcome{Stdout: "out\n", Stderr: "err\n", ExitCode: 3})
	ctx := WithFake(t, t.Context(), fake)

	cmd := exec.Command("git", "fetch", "--all")
	cmd.Dir, cmd.Env = "/nowhere", []string{"A=1"}
	cmd.Stdin = strings.NewReader("in")
	before := time.Now()
	res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Minute), safeexec.WithGracePeriod(time.Second))
	after := time.Now()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Same(t, exit, err, "a command that merely failed")
	assert.Equal(t, "exit status 3", err.Error())
	assert.Equal(t, 3, exit.ExitCode())
	assert.Equal(t, "err\n", string(exit.Stderr))
	assert.Equal(t, 3, res.ExitCode)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.Equal(t, "out", res.Stdout.String())
	assert.Equal(t, "err", res.Stderr.String())
	assert.Equal(t, res.PID, cmd.Process.Pid)
	assert.Equal(t, 3, cmd.ProcessState.ExitCode())
	assert.Error(t, cmd.Process.Kill(), "nobody is there")

	calls := fake.Calls()
	require.Len(t, calls, 1)
	assert.Equal(t, []string{"git", "fetch", "--all"}, calls[0].Args)
	assert.Equal(t, "/nowhere", calls[0].Dir)
	assert.Equal(t, []string{"A=1"}, calls[0].Env)
	assert.Equal(t, "in", string(calls[0].Stdin))
	assert.Equal(t, time.Minute, calls[0].Settings.Timeout)
	assert.Equal(t, time.Second, calls[0].Settings.GracePeriod)
	assert.WithinRange(t, calls[0].Deadline, before.Add(time.Minute), after.Add(time.Minute))
}

// The options and the command are checked as ever, before the fake is asked.
func TestFakeRefuses(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	ctx := WithFake(t, t.Context(), fake)
	_, err := safeexec.Run(ctx, exec.Command("tool"))
	assert.ErrorIs(t, err, safeexec.ErrNoTimeout)
	_, err = safeexec.Run(ctx, exec.Command("tool"), safeexec.WithTimeout(-1))
	var config *safeexec.ConfigError
	assert.ErrorAs(t, err, &config)
	assert.Empty(t, fake.Calls())
}

func TestFakeStreams(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 100_000)
	ctx := fakeOne(t, Outcome{Stdout: text, Stderr: "e"})
	var out bytes.Buffer
	cmd := exec.Command("tool")
	cmd.Stdout = &out
	res, err := safeexec.Run(ctx, cmd, bounded)
	require.NoError(t, err)
	assert.Equal(t, text, out.String())
	assert.EqualValues(t, len(text), res.Stdout.Total)

	both, err := safeexec.CombinedOutput(fakeOne(t, Outcome{Stdout: "o", Stderr: "e"}), exec.Command("tool"), bounded)
	require.NoError(t, err)
	assert.Equal(t, "oe", string(both))

	_, err = safeexec.Output(fakeOne(t, Outcome{Stdout: text}), exec.Command("tool"), bounded, safeexec.WithOutputLimit(10))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)

	cmd = exec.Command("tool")
	cmd.Stdout = failing{}
	_, err = safeexec.Run(fakeOne(t, Outcome{Stdout: "o"}), cmd, bounded)
	assert.ErrorIs(t, err, safeexec.ErrWriterFailed)
	assert.ErrorIs(t, err, io.ErrClosedPipe)

	res, err = safeexec.Run(fakeOne(t, Outcome{Stdout: text, Hangs: true}), exec.Command("tool"), bounded,
		safeexec.WithOutputLimit(10), safeexec.WithOverflow(safeexec.OverflowStop))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.Equal(t, syscall.SIGTERM, res.Signal)
}

// A blocking Writer returns once the channel is closed.
type blocking chan struct{}

func (b blocking) Write(p []byte) (int, error) {
	<-b
	return len(p), nil
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The table of docs/errors.md.
func TestFakeErrors(t *testing.T) {
	t.Parallel()
	report := &safeexec.Report{Verdict: "waits for a lock"}
	who := safeexec.ProcessInfo{PID: 1 << 30, Name: "daemon"}
	refused := &safeexec.ContainmentError{Err: syscall.EROFS}
	for name, tt := range map[string]struct {
		outcome Outcome
		is      []error
		cause   safeexec.Cause
	}{
		"timeout":        {TimedOut(report), []error{safeexec.ErrTimeout, context.DeadlineExceeded}, safeexec.CauseTimeout},
		"canceled":       {Canceled(), []error{safeexec.ErrCanceled, context.Canceled}, safeexec.CauseCanceled},
		"idle":           {Idle(report), []error{safeexec.ErrIdle, os.ErrDeadlineExceeded}, safeexec.CauseIdle},
		"stopped":        {Stopped(), []error{safeexec.ErrStopped}, safeexec.CauseStopped},
		"not found":      {NotFound(), []error{safeexec.ErrNotFound, exec.ErrNotFound}, safeexec.CauseStartFailed},
		"not executable": {NotExecutable(), []error{safeexec.ErrNotExecutable, fs.ErrPermission}, safeexec.CauseStartFailed},
		"bad dir":        {BadDir(), []error{safeexec.ErrBadDir, fs.ErrNotExist}, safeexec.CauseStartFailed},
		"no process":     {Refused(syscall.EAGAIN), []error{syscall.EAGAIN}, safeexec.CauseStartFailed},
		"containment":    {Refused(refused), []error{safeexec.ErrContainment, refused}, safeexec.CauseStartFailed},
		"leaked":         {Refused(&safeexec.LeakedFDsError{}), []error{safeexec.ErrLeakedFDs}, safeexec.CauseStartFailed},
		"too many left":  {Refused(safeexec.ErrTooManyLeft), []error{safeexec.ErrTooManyLeft}, safeexec.CauseStartFailed},
		"terminal":       {Refused(safeexec.ErrNoTerminal), []error{safeexec.ErrNoTerminal}, safeexec.CauseStartFailed},
		"limits":         {LimitsFailed(syscall.EPERM), []error{safeexec.ErrLimits, syscall.EPERM}, safeexec.CauseLimits},
		"memory":         {OOMKilled(), []error{safeexec.ErrOOMKilled}, safeexec.CauseExited},
		"held":           {PipeHeld(safeexec.Holder{ProcessInfo: who}), []error{safeexec.ErrPipeHeld, exec.ErrWaitDelay}, safeexec.CauseExited},
		"survived":       {Survived(who), []error{safeexec.ErrSurvivors}, safeexec.CauseExited},
		"writer":         {WriterStuck(), []error{safeexec.ErrWriterStuck, exec.ErrWaitDelay}, safeexec.CauseExited},
		"reader":         {ReaderStuck(), []error{safeexec.ErrReaderStuck, exec.ErrWaitDelay}, safeexec.CauseExited},
		"status unknown": {StatusUnknown(), []error{safeexec.ErrStatusUnknown, syscall.ECHILD}, safeexec.CauseExited},
		"unseen":         {TreeUnseen(), []error{safeexec.ErrTreeUnseen}, safeexec.CauseExited},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := safeexec.Run(fakeOne(t, tt.outcome), exec.Command("tool"), bounded)
			var e *safeexec.Error
			require.ErrorAs(t, err, &e)
			for _, target := range tt.is {
				assert.ErrorIs(t, err, target)
			}
			assert.Equal(t, "tool", e.Program)
			assert.Equal(t, tt.cause, res.Cause)
			assert.Equal(t, tt.outcome.Report, res.Report)
			assert.Equal(t, tt.outcome.Report, e.Report)
			if tt.outcome.Cause != safeexec.CauseNone {
				assert.Equal(t, syscall.SIGTERM, res.Signal)
				assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
			}
			if tt.outcome.StartErrs != nil {
				assert.Equal(t, "start", e.Op)
				assert.Zero(t, res.PID)
			}
		})
	}
	_, err := safeexec.Run(fakeOne(t, Refused(syscall.EAGAIN)), exec.Command("tool"), bounded)
	assert.True(t, safeexec.Retryable(err))
	res, _ := safeexec.Run(fakeOne(t, NotFound()), exec.Command("tool"), bounded)
	assert.Equal(t, 127, res.ShellCode())
	res, err = safeexec.Run(fakeOne(t, Redacted(TimedOut(nil), new(safeexec.RedactError))), exec.Command("tool"), bounded)
	var redact *safeexec.RedactError
	assert.ErrorAs(t, err, &redact)
	assert.Equal(t, 124, res.TimeoutCode())
}

// What is no failure of the command alone is in the result, and beside a failure in the error.
func TestFakeThatSucceeds(t *testing.T) {
	t.Parallel()
	outcome := Redacted(Outcome{Report: new(safeexec.Report)}, new(safeexec.RedactError))
	outcome.Result = OOMKilled().Result // another process of its tree
	res, err := safeexec.Run(fakeOne(t, outcome), exec.Command("tool"), bounded)
	require.NoError(t, err)
	assert.True(t, res.OOMKilled)
	assert.Nil(t, res.Report, "it ended by itself")

	outcome = StatusUnknown()
	outcome.Result = OOMKilled().Result
	_, err = safeexec.Run(fakeOne(t, outcome), exec.Command("tool"), bounded)
	require.ErrorIs(t, err, safeexec.ErrStatusUnknown)
	assert.ErrorIs(t, err, safeexec.ErrOOMKilled)
}

// The context and the timeout end a fake as they end a command.
func TestFakeIsBounded(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Outcome{"hangs": {Hangs: true}, "takes long": {After: long}, "stalled": StartStalled()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := inTime(t, o, exec.Command)
			assert.ErrorIs(t, err, safeexec.ErrTimeout)
			assert.Equal(t, safeexec.CauseTimeout, res.Cause)
			assert.Equal(t, o.StartErrs != nil, errors.Is(err, safeexec.ErrStartStalled))

			gone := errors.New("gone")
			var cancel context.CancelCauseFunc
			fake := new(Fake)
			fake.ExpectFunc("tool", func([]string) bool { cancel(gone); return true }).Return(o)
			ctx, cancelCause := context.WithCancelCause(WithFake(t, t.Context(), fake))
			cancel = cancelCause
			_, err = safeexec.Run(ctx, exec.Command("tool"), bounded)
			assert.ErrorIs(t, err, safeexec.ErrCanceled)
			assert.ErrorIs(t, err, gone)
		})
	}
	// Nothing happens in the grace period, so that it is not waited for.
	res, err := inTime(t, Outcome{Hangs: true, IgnoresTerm: true}, exec.Command, safeexec.WithGracePeriod(long))
	assert.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Equal(t, syscall.SIGKILL, res.Signal)

	// A Writer that does not return holds up the program, which a signal ends all the same.
	stuck := make(chan struct{})
	defer close(stuck)
	writing := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Stdout = blocking(stuck)
		return cmd
	}
	res, err = inTime(t, Outcome{Stdout: strings.Repeat("x", 1<<20), Cause: safeexec.CauseTimeout}, writing,
		safeexec.WithDrainTimeout(10*time.Millisecond))
	assert.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.NotErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Equal(t, syscall.SIGTERM, res.Signal)

	// A Reader that does not end is left to the bounds.
	r, w := io.Pipe()
	defer w.Close()
	reading := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Stdin = r
		return cmd
	}
	_, err = inTime(t, Outcome{}, reading, safeexec.WithDrainTimeout(time.Millisecond))
	assert.ErrorIs(t, err, safeexec.ErrTimeout)
}

// inTime runs a command with the shortest timeout that lets it be started.
func inTime(t *testing.T, o Outcome, command func(string, ...string) *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	for timeout := time.Millisecond; ; timeout *= 2 {
		require.Less(t, timeout, long)
		fake := new(Fake)
		fake.Expect("tool").Return(o)
		ctx := WithFake(&recorder{TB: t}, t.Context(), fake) // whose test does not end
		res, err := safeexec.Run(ctx, command("tool"), append(opts, safeexec.WithTimeout(timeout))...)
		if len(fake.Calls()) > 0 {
			return res, err
		}
	}
}

func TestFakeProcess(t *testing.T) {
	t.Parallel()
	start := func(o Outcome) *safeexec.Process {
		p, err := safeexec.Start(fakeOne(t, o), exec.Command("tool"), bounded)
		require.NoError(t, err)
		return p
	}
	p := start(Outcome{Hangs: true, Report: &safeexec.Report{Verdict: "sleeps"}})
	assert.Greater(t, p.PID(), 1<<22)
	report, err := p.Report()
	require.NoError(t, err)
	assert.Equal(t, "sleeps", report.Verdict)
	require.NoError(t, p.Signal(syscall.SIGCONT))
	require.NoError(t, p.Signal(syscall.SIGUSR1))
	res, err := p.Wait()
	assert.Error(t, err)
	assert.Equal(t, syscall.SIGUSR1, res.Signal)
	assert.Equal(t, safeexec.SignalerCaller, res.SignaledBy)
	assert.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)
	_, err = p.Report()
	assert.ErrorIs(t, err, os.ErrProcessDone)
	<-p.Done()

	res, err = start(Outcome{Hangs: true}).Stop()
	assert.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Equal(t, safeexec.CauseStopped, res.Cause)

	p = start(Outcome{Hangs: true})
	report, err = p.Report()
	require.NoError(t, err)
	assert.Equal(t, p.PID(), report.PID)
	_, _ = p.Stop()
}

// The pipes of os/exec end with the program, and Wait closes them.
func TestFakePipes(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("tool")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	fake := new(Fake)
	fake.Expect("tool").Return(Outcome{Do: func(p Process) int {
		_, _ = io.Copy(p.Stdout, p.Stdin)
		_, _ = io.WriteString(p.Stderr, strings.Join(p.Args, " "))
		return 7
	}})
	p, err := safeexec.Start(WithFake(t, t.Context(), fake), cmd, bounded)
	require.NoError(t, err)
	_, err = io.WriteString(in, "hello")
	require.NoError(t, err)
	require.NoError(t, in.Close())
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(text))
	res, err := p.Wait()
	assert.Error(t, err)
	assert.Equal(t, 7, res.ExitCode)
	assert.Equal(t, "tool", res.Stderr.String())
	_, err = out.Read(make([]byte, 1))
	assert.ErrorIs(t, err, os.ErrClosed)
	assert.Equal(t, "hello", string(fake.Calls()[0].Stdin))
}

// A file of the caller's is written to and stays open.
func TestFakeFile(t *testing.T) {
	t.Parallel()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer f.Close()
	cmd := exec.Command("tool")
	cmd.Stdout, cmd.Stdin = f, f
	_, err = safeexec.Run(fakeOne(t, Outcome{Stdout: "text"}), cmd, bounded)
	require.NoError(t, err)
	_, err = f.WriteString("more")
	require.NoError(t, err)
	text, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	assert.Equal(t, "textmore", string(text))
}

func TestFakeUnexpected(t *testing.T) {
	t.Parallel()
	run := func(ctx context.Context, args ...string) error {
		_, err := safeexec.Run(ctx, exec.Command(args[0], args[1:]...), bounded)
		return err
	}
	for name, tt := range map[string]struct {
		ordered bool
		run     [][]string
		want    string // of the last failure
	}{
		"another argument": {false, [][]string{{"git", "push", "x y"}}, `argument 2 is "x y", not "origin"`},
		"one too many":     {false, [][]string{{"git", "fetch", "-q"}}, `argument 2 is one too many: "-q"`},
		"one missing":      {false, [][]string{{"git", "push"}}, `argument 2 is missing: "origin"`},
		"out of order":     {true, [][]string{{"git", "push", "origin"}}, "expected: git fetch"},
		"once more":        {false, [][]string{{"git", "fetch"}, {"git", "fetch"}}, "run:      git fetch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failures := &recorder{TB: t}
			fake := &Fake{Ordered: tt.ordered}
			fake.Expect("git", "fetch")
			fake.Expect("git", "push", "origin")
			ctx := WithFake(failures, t.Context(), fake)
			var err error
			for _, args := range tt.run {
				err = run(ctx, args...)
			}
			var unexpected *UnexpectedError
			require.ErrorAs(t, err, &unexpected)
			require.Len(t, failures.errors, 1)
			assert.Contains(t, failures.errors[0], tt.want)
			assert.Contains(t, failures.end()[1], "expected and not run: git")
			assert.Len(t, fake.Calls(), len(tt.run))
		})
	}
	failures := &recorder{TB: t}
	fake := new(Fake)
	ctx := WithFake(failures, t.Context(), fake)
	require.Error(t, run(ctx, "true"))
	assert.Contains(t, failures.end()[0], "expected: nothing more")

	fake = new(Fake)
	fake.Expect("a").Times(2)
	fake.ExpectFunc("b with a file", func(args []string) bool { return args[0] == "b" && len(args) == 2 })
	failures = &recorder{TB: t}
	ctx = WithFake(failures, t.Context(), fake)
	require.NoError(t, run(ctx, "b", "/tmp/x"))
	assert.Equal(t, []string{"safeexectest: expected and not run: a (2 times)"}, failures.end())
	require.NoError(t, run(ctx, "a"))
	require.NoError(t, run(ctx, "a"))
}

// A group passes its context on, and so asks the fake.
func TestFakeGroup(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	fake.Expect("a").Return(Outcome{Stdout: "a"})
	fake.Expect("b").Return(NotFound())
	g, err := group.New(WithFake(t, t.Context(), fake), group.Options(bounded))
	require.NoError(t, err)
	a, b := g.Go(exec.Command("a")), g.Go(exec.Command("b"))
	res, err := a.Wait()
	require.NoError(t, err)
	assert.Equal(t, "a", res.Stdout.String())
	_, err = b.Wait()
	assert.ErrorIs(t, err, safeexec.ErrNotFound)
	require.NoError(t, g.Shutdown(t.Context()))
}
