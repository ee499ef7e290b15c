package safeexectest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// RecordVariable is the environment variable that has [Record] record anew.
const RecordVariable = "SAFEEXECTEST_RECORD"

// Record returns a context whose commands come from a file: what they wrote, and how they ended, when it was
// recorded. Where there is no file, or the environment variable SAFEEXECTEST_RECORD is 1, the commands are run, and
// the file is written at the end of the test.
//
// A replay is a [Fake] in the order of the record: another command line, or another standard input, fails the test.
// What is recorded of a run is its output, exit code, signal, and that its program was not found. When it is recorded
// it runs with the directory, environment and bounds of the call, and without its other options. The file holds
// arguments and output: look at it before you publish it.
func Record(t testing.TB, ctx context.Context, file string) context.Context {
	t.Helper()
	text, err := os.ReadFile(file)
	switch {
	case os.Getenv(RecordVariable) == "1", errors.Is(err, fs.ErrNotExist):
		r := &recording{ctx: ctx}
		t.Cleanup(func() {
			t.Helper()
			if err := r.save(file); err != nil {
				t.Errorf("safeexectest: %v", err)
			}
		})
		return seam.With(ctx, r)
	case err != nil:
		t.Fatalf("safeexectest: %v", err)
	}
	var runs []*recorded
	if err := json.Unmarshal(text, &runs); err != nil {
		t.Fatalf("safeexectest: %s: %v", file, err)
	}
	fake := &Fake{Ordered: true}
	for _, run := range runs {
		if len(run.Args) == 0 {
			t.Fatalf("safeexectest: %s: a run without arguments", file)
		}
		fake.Expect(run.Args[0], run.Args[1:]...).Return(run.outcome())
	}
	t.Cleanup(func() {
		t.Helper()
		for i, call := range fake.Calls() {
			if i < len(runs) && !bytes.Equal(call.Stdin, runs[i].Stdin) {
				t.Errorf("safeexectest: %s got another standard input: %q, not %q",
					commandLine(call.Args), call.Stdin, runs[i].Stdin)
			}
		}
	})
	return WithFake(t, ctx, fake)
}

// A recorded is a run in a file.
type recorded struct {
	Args     []string       `json:"args"`
	Stdin    blob           `json:"stdin,omitempty"`
	Stdout   blob           `json:"stdout,omitempty"`
	Stderr   blob           `json:"stderr,omitempty"`
	ExitCode int            `json:"exit_code"`
	Signal   syscall.Signal `json:"signal,omitempty"`
	NotFound bool           `json:"not_found,omitempty"`
}

func (r *recorded) outcome() Outcome {
	if r.NotFound {
		return NotFound()
	}
	return Outcome{Stdout: string(r.Stdout), Stderr: string(r.Stderr), ExitCode: r.ExitCode, Signal: r.Signal}
}

// A blob is text where it can be, and base64 in an array where it cannot.
type blob []byte

func (b blob) MarshalJSON() ([]byte, error) {
	if utf8.Valid(b) {
		return json.Marshal(string(b))
	}
	return json.Marshal([]string{base64.StdEncoding.EncodeToString(b)})
}

func (b *blob) UnmarshalJSON(text []byte) error {
	var plain string
	if json.Unmarshal(text, &plain) == nil {
		*b = blob(plain)
		return nil
	}
	var encoded []string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return err
	}
	if len(encoded) != 1 {
		return fmt.Errorf("%d strings are no base64", len(encoded))
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded[0])
	*b = decoded
	return err
}

// A recording runs the commands that it is asked for, beside the runs that ask.
type recording struct {
	ctx context.Context // without the recording

	mu   sync.Mutex
	runs []*recorded
}

func (r *recording) save(file string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.MarshalIndent(r.runs, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}

// Start notes the command. That its program is not there can be told before.
func (r *recording) Start(c seam.Call) (seam.Program, error) {
	run := &recorded{Args: slices.Clone(c.Cmd.Args)}
	r.mu.Lock()
	r.runs = append(r.runs, run)
	r.mu.Unlock()
	err := c.Cmd.Err
	if err == nil {
		_, err = exec.LookPath(c.Cmd.Path)
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		run.NotFound = true
		return nil, err
	}
	ctx, cancel := context.WithDeadlineCause(r.ctx, c.Deadline, nil)
	cmd := &exec.Cmd{Path: c.Cmd.Path, Args: c.Cmd.Args, Dir: c.Cmd.Dir, Env: c.Cmd.Env}
	settings, _ := c.Settings.(safeexec.Settings)
	return &recordedProgram{mu: &r.mu, run: run, cmd: cmd, ctx: ctx, cancel: cancel, settings: settings}, nil
}

// A recordedProgram is a real run that plays the program of another one.
type recordedProgram struct {
	mu       *sync.Mutex // of the recording, for run
	run      *recorded
	cmd      *exec.Cmd
	ctx      context.Context
	cancel   context.CancelFunc
	settings safeexec.Settings
}

// Live runs the command. Its end by the caller's bounds is an end by a signal to it.
func (p *recordedProgram) Live(stage seam.Stage) seam.End {
	defer p.cancel()
	var in, out, errs collector
	if stage.In != nil {
		p.cmd.Stdin = io.TeeReader(stage.In, &in)
	}
	p.cmd.Stdout = io.MultiWriter(&out, orDiscard(stage.Out))
	p.cmd.Stderr = io.MultiWriter(&errs, orDiscard(stage.Err))
	res, err := safeexec.Run(p.ctx, p.cmd, safeexec.WithTimeout(time.Until(p.deadline())),
		safeexec.WithGracePeriod(p.settings.GracePeriod), safeexec.WithKillTimeout(p.settings.KillTimeout))
	end := seam.End{Change: func(r *safeexec.Result) {
		r.Killed, r.Survivors, r.Usage = res.Killed, res.Survivors, res.Usage
	}}
	code := max(res.ExitCode, 0)
	switch {
	case res.Signal != 0:
		end.Status = seam.Signaled(res.Signal)
	case res.PID == 0 && err != nil:
		code = 126 // found, and not executed, as a shell says it
		fallthrough
	default:
		end.Status = seam.Exited(code)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run.ExitCode, p.run.Signal = code, res.Signal
	p.run.Stdin, p.run.Stdout, p.run.Stderr = in.bytes(), out.bytes(), errs.bytes()
	return end
}

func (p *recordedProgram) deadline() time.Time {
	deadline, _ := p.ctx.Deadline()
	return deadline
}

// Signal ends the real run, whichever signal it is: that run has a grace period of its own.
func (p *recordedProgram) Signal(sig syscall.Signal) bool {
	if harmless(sig) {
		return false
	}
	p.cancel()
	return true
}

func (p *recordedProgram) Report() any { return nil }
