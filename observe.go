package safeexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/repeats"
)

// An Observer is asked about each run that is to be started with it, see [WithObserver].
type Observer interface {
	// Observe is called before anything is started, with the context and the command of the run, and
	// returns what is to be called during the run. It must not change the command, and not use it once it is late.
	Observe(ctx context.Context, cmd *exec.Cmd) Observation
}

// An Observation is what an [Observer] wants to know of one run. Funcs that are nil are not called.
type Observation struct {
	// Env is added to the command's environment, as "key=value".
	Env []string
	// Started is called once the command runs.
	Started func(pid int)
	// Retried is called when a start failed for a reason that usually passes, and is to be tried again.
	Retried func(err error)
	// Ending is called when the run is about to be ended by force, before the first signal.
	Ending func(cause Cause)
	// Ended is called at the end, with what the run returns, also when nothing was started: Result.PID
	// is 0 then. The Result lists what the run killed, left alive or could not end. It shares its slices and its
	// report with the caller and with other observers: it is only to be read.
	Ended func(res Result, err error)
}

type observerOption struct{ Observer }

func (o observerOption) apply(c *config) {
	if o.Observer != nil {
		c.observers = append(c.observers, o.Observer)
	}
}

// WithObserver has o told of the run. Each WithObserver adds an observer; a nil one is ignored. A run that
// is refused for its options, context or command is not observed.
//
// What an observer does cannot change the run, nor what another observer is told: its funcs are called one after the
// other in a goroutine of its own, beside the command. Run waits for all together, twice and each time at most the
// drain timeout ([WithDrainTimeout]): for Observe, and at the end for all others. What has not returned by then is
// left behind as [AbandonedObserver], and Run returns that much later than it promises otherwise; the Env of an
// Observe that is late has no effect. A panic is contained, and is in Result.ObserverErr, which is what the observers
// do not see.
//
// For each Observe that returns, Ended is called once, and nothing after it: before Run returns, or, where a call is
// left behind, once that has returned. What else was to be told then comes before it, but for the 61st Retried and
// those that follow.
//
// The end of a run of [Start] is observed when it comes, and with StdinPipe, StdoutPipe or StderrPipe
// at the first Wait.
//
// A run without an observer allocates nothing for it.
func WithObserver(o Observer) Option { return observerOption{o} }

// An observation is what is being observed of one run, by each of its observers. Its methods belong to the goroutine
// of the run, and do nothing on a nil one.
type observation []*watch

// A watch is that of one observer.
type watch struct {
	events chan func()   // closed behind the last
	asked  chan struct{} // closed once Observe has returned
	done   chan struct{} // closed behind all events
	late   bool          // Observe was not waited for

	told Observation // by the first event, for the others; for the run if it is not late

	mu  sync.Mutex
	err error // the first panic
}

// maxEvents is how many can wait behind a func that does not return. Of retries there may be any number; each other
// has a place.
const maxEvents = 64

// beginObserving asks the observers. It belongs to begin.
func (r *run) beginObserving() error {
	if len(r.cfg.observers) == 0 {
		return nil
	}
	ctx, cmd := r.ctx, r.cmd
	for _, observer := range r.cfg.observers {
		w := &watch{events: make(chan func(), maxEvents), asked: make(chan struct{}), done: make(chan struct{})}
		w.events <- func() {
			defer close(w.asked)
			w.told = observer.Observe(ctx, cmd)
		}
		go w.deliver()
		r.observed = append(r.observed, w)
	}
	timer := time.NewTimer(r.cfg.Drain)
	defer timer.Stop()
	for _, w := range r.observed {
		w.late = !closed(w.asked, timer)
	}
	return r.observed.checkEnv()
}

// deliver makes the calls. Where the observer ends the goroutine, another goes on.
func (w *watch) deliver() {
	over := false
	defer func() {
		if over {
			close(w.done)
		} else {
			go w.deliver()
		}
	}()
	for call := range w.events {
		w.contain(call)
	}
	over = true
}

// contain calls f, and keeps the first panic.
func (w *watch) contain(f func()) {
	defer func() {
		if v := recover(); v != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.err == nil {
				w.err = fmt.Errorf("safeexec: observer panicked: %v", v)
			}
		}
	}()
	f()
}

// tell has f called for each observer for whom so many places are left for other events. Behind a func that does not
// return f is lost.
func (o observation) tell(left int, f func(Observation)) {
	for _, w := range o {
		if len(w.events) < maxEvents-left {
			w.events <- func() { f(w.told) }
		}
	}
}

// checkEnv refuses variables that cannot be ones.
func (o observation) checkEnv() error {
	for _, w := range o {
		if w.late {
			continue
		}
		for _, v := range w.told.Env {
			if strings.IndexByte(v, '=') <= 0 || strings.IndexByte(v, 0) >= 0 {
				return &ConfigError{Name: "Observation.Env", Reason: "holds what is no variable"}
			}
		}
	}
	return nil
}

// addEnv adds the observers' variables to those of the command.
func (o observation) addEnv(cmd *exec.Cmd) {
	for _, w := range o {
		if !w.late && len(w.told.Env) > 0 {
			cmd.Env = slices.Concat(cmd.Environ(), w.told.Env)
		}
	}
}

func (o observation) started(pid int) {
	if o != nil {
		o.tell(2, func(told Observation) {
			if told.Started != nil {
				told.Started(pid)
			}
		})
	}
}

func (o observation) retried(err error) {
	if o != nil {
		o.tell(3, func(told Observation) {
			if told.Retried != nil {
				told.Retried(err)
			}
		})
	}
}

func (o observation) ending(cause Cause) {
	if o != nil {
		o.tell(1, func(told Observation) {
			if told.Ending != nil {
				told.Ending(cause)
			}
		})
	}
}

// endObserving tells the observers of the end, and waits for them. It is the last call to them.
func (r *run) endObserving(err error) {
	o := r.observed
	if o == nil {
		return
	}
	r.observed = nil
	res := r.result
	for _, w := range o {
		w.events <- func() {
			if w.told.Ended != nil {
				w.told.Ended(res, err)
			}
		}
		close(w.events)
	}
	timer := time.NewTimer(r.cfg.Drain)
	defer timer.Stop()
	left := false
	for _, w := range o {
		left = !closed(w.done, timer) || left
		w.mu.Lock()
		if r.result.ObserverErr == nil {
			r.result.ObserverErr = w.err
		}
		w.mu.Unlock()
	}
	if left {
		r.result.Abandoned = append(slices.Clip(r.result.Abandoned), AbandonedObserver)
	}
}

// closed reports whether c is closed before the timer, which may have fired before, fires.
func closed(c <-chan struct{}, timer *time.Timer) bool {
	select {
	case <-c:
	case <-timer.C:
		timer.Reset(0) // for the next
	}
	select {
	case <-c: // or both, or this goroutine was late
		return true
	default:
		return false
	}
}

// errUnfinished is the end of a run as observers see it whose caller's Writer, or Redact function, panicked.
var errUnfinished = errors.New("safeexec: a function of the caller's panicked")

// logEnd is how much of each end of an output a record holds, in bytes.
const logEnd = 1 << 10

// WithLogger logs each run with l when it has ended: one record, with the message "command ended". Its level
// is Info for a run without error and for one that the caller canceled or stopped, Warn for a command
// that merely failed, and Error for all else. The attributes, of which those without meaning for the
// run are left out:
//
//	command       the last element of the program's path; arguments are never logged
//	pid, cause, exit_code, signal, signaled_by, duration
//	usage         what the tree has used, as far as is known, see [Usage.LogValue]
//	start_retries, killed, survivors, left, holders     numbers
//	error         in one line
//	stdout, stderr   groups, of outputs that went through this package:
//	    bytes     how many came
//	    dropped   how many of them were not kept or delivered
//	    head      the output kept, without white space around it; of one over 2 KiB the first 1 KiB
//	    tail      the last 1 KiB of it
//
// An output of more than 256 bytes that is the same as that of the run before, of the same path,
// arguments and directory, and stream, is not shown again: its group has output=equal-last and
// repeats=n in place of head and tail, the n-th time n. The first that differs has last_repeats=n. Of an output
// with bytes dropped, those kept are compared, and the total. What is compared is known to the option: make it once and
// use it for all runs, of any number of goroutines. It knows the last 256 commands by digest.
//
// An output may hold secrets, and is logged as it is. A nil l is ignored.
func WithLogger(l *slog.Logger) Option {
	if l == nil {
		return observerOption{}
	}
	return WithObserver(&logObserver{logger: l})
}

// A logObserver makes a record of each run.
type logObserver struct {
	logger *slog.Logger
	last   repeats.Memory
}

// Observe has the record made at the end.
func (o *logObserver) Observe(ctx context.Context, cmd *exec.Cmd) Observation {
	program, key := programName(cmd), repeats.KeyOf(cmd)
	return Observation{Ended: func(res Result, err error) {
		level := logLevel(res, err)
		if !o.logger.Enabled(ctx, level) {
			return
		}
		attrs := append(make([]slog.Attr, 0, 17), slog.String("command", program))
		attrs = appendFacts(attrs, &res, err)
		attrs = o.appendOutputs(attrs, key, &res)
		o.logger.LogAttrs(ctx, level, "command ended", attrs...)
	}}
}

// logLevel returns the level of a run's record.
func logLevel(res Result, err error) slog.Level {
	_, failed := err.(*exec.ExitError) //nolint:errorlint // wrapped, it is not all that went wrong
	var e *Error
	switch {
	case err == nil:
		return slog.LevelInfo
	case failed:
		return slog.LevelWarn
	case (res.Cause == CauseCanceled || res.Cause == CauseStopped) && errors.As(err, &e) && e.onlyEnded():
		return slog.LevelInfo
	}
	return slog.LevelError
}

// onlyEnded reports whether nothing is wrong with a run but that it was ended.
func (e *Error) onlyEnded() bool {
	for _, other := range []error{ErrSurvivors, ErrTreeUnseen, ErrPipeHeld, ErrWriterStuck, ErrReaderStuck} {
		if errors.Is(e, other) {
			return false
		}
	}
	return true
}

// LogValue is the result as a group, with the attributes of [WithLogger] but for the error and the outputs.
func (r Result) LogValue() slog.Value {
	attrs := append(make([]slog.Attr, 0, 14), slog.String("command", r.Program))
	return slog.GroupValue(appendFacts(attrs, &r, nil)...)
}

func appendFacts(attrs []slog.Attr, res *Result, err error) []slog.Attr {
	if res.PID != 0 {
		attrs = append(attrs, slog.Int("pid", res.PID))
	}
	attrs = append(attrs, slog.String("cause", res.Cause.String()))
	if res.ExitCode >= 0 {
		attrs = append(attrs, slog.Int("exit_code", res.ExitCode))
	}
	if res.Signal != 0 {
		attrs = append(attrs, slog.String("signal", res.Signal.String()), slog.String("signaled_by", res.SignaledBy.String()))
	}
	attrs = append(attrs, slog.Duration("duration", res.Times.Total))
	if res.Usage.CPU != UsageUnknown {
		attrs = append(attrs, slog.Any("usage", res.Usage))
	}
	for _, n := range []struct {
		name  string
		count int
	}{
		{"start_retries", res.StartRetries},
		{"killed", len(res.Killed)},
		{"survivors", len(res.Survivors)},
		{"left", len(res.Left)},
		{"holders", len(res.Holders)},
	} {
		if n.count != 0 {
			attrs = append(attrs, slog.Int(n.name, n.count))
		}
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	return attrs
}

// appendOutputs adds the outputs, and remembers them.
func (o *logObserver) appendOutputs(attrs []slog.Attr, key repeats.Key, res *Result) []slog.Attr {
	if res.PID == 0 {
		return attrs
	}
	streams := [2]Stream{res.Stdout, res.Stderr}
	var outputs [2]repeats.Output
	for i, s := range streams {
		outputs[i] = repeats.Output{Total: s.Total, Head: s.head, Data: s.data}
	}
	repeated := o.last.Compare(key, outputs)
	for i, name := range [...]string{"stdout", "stderr"} {
		s, repeat := streams[i], repeated[i]
		group := make([]slog.Attr, 0, 5)
		if repeat.Count > 0 && !repeat.Equal {
			group = append(group, slog.Int("last_repeats", repeat.Count))
		}
		switch {
		case s.Total == 0 && len(group) == 0:
			continue
		case repeat.Equal:
			group = append(group, slog.Int64("bytes", s.Total),
				slog.String("output", "equal-last"), slog.Int("repeats", repeat.Count))
		default:
			group = appendEnds(append(group, slog.Int64("bytes", s.Total)), s)
		}
		attrs = append(attrs, slog.Attr{Key: name, Value: slog.GroupValue(group...)})
	}
	return attrs
}

// appendEnds adds what of an output is shown.
func appendEnds(group []slog.Attr, s Stream) []slog.Attr {
	if s.Dropped != 0 {
		group = append(group, slog.Int64("dropped", s.Dropped))
	}
	head, tail := bytes.TrimSpace(s.Head()), bytes.TrimSpace(s.Tail())
	switch {
	case len(tail) == 0 && len(head) > 2*logEnd:
		tail = head[len(head)-logEnd:]
		head = head[:logEnd]
	case len(tail) != 0:
		head, tail = head[:min(len(head), logEnd)], tail[max(0, len(tail)-logEnd):]
	}
	if len(head) != 0 {
		group = append(group, slog.String("head", valid(head)))
	}
	if len(tail) != 0 {
		group = append(group, slog.String("tail", valid(tail)))
	}
	return group
}

// valid returns text of which a cut may have left half a character at an end.
func valid(text []byte) string { return strings.ToValidUTF8(string(text), "\uFFFD") }
