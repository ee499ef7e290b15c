package safeexec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
)

// How much of each end of an output a record holds, in bytes, and from where on an output is not shown
// again when it is the same as before.
const (
	logEnd    = 1 << 10
	logRepeat = 256
)

// maxLogged is how many commands' last outputs an option of WithLogger knows.
const maxLogged = 256

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
	return WithObserver(&logObserver{logger: l, last: map[logKey]*lastOutputs{}})
}

// A logObserver makes a record of each run.
type logObserver struct {
	logger *slog.Logger

	mu   sync.Mutex
	last map[logKey]*lastOutputs
	runs uint64 // counts the uses of last
}

// A logKey is the digest of a command.
type logKey [sha256.Size]byte

// A lastOutputs is what is known of the last outputs of a command.
type lastOutputs struct {
	used    uint64
	streams [2]struct {
		digest  [sha256.Size]byte
		long    bool // the last output was over logRepeat bytes, and digest is its
		repeats int
	}
}

func (o *logObserver) Observe(ctx context.Context, cmd *exec.Cmd) Observation {
	program, key := programName(cmd), keyOf(cmd)
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

// keyOf returns the digest of what makes a command the same as another.
func keyOf(cmd *exec.Cmd) logKey {
	h := sha256.New()
	for _, list := range [][]string{{cmd.Path, cmd.Dir}, cmd.Args} {
		for _, s := range list {
			_ = binary.Write(h, binary.LittleEndian, uint64(len(s)))
			h.Write([]byte(s))
		}
	}
	return logKey(h.Sum(nil))
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
func (o *logObserver) appendOutputs(attrs []slog.Attr, key logKey, res *Result) []slog.Attr {
	if res.PID == 0 {
		return attrs
	}
	digests := [2][sha256.Size]byte{digestOf(res.Stdout), digestOf(res.Stderr)} // outside the lock: 1 MiB takes a while
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.lastOf(key)
	for i, s := range []struct {
		name string
		Stream
	}{{"stdout", res.Stdout}, {"stderr", res.Stderr}} {
		was := &last.streams[i]
		group := make([]slog.Attr, 0, 5)
		long := len(s.data) > logRepeat
		equal := long && was.long && was.digest == digests[i]
		if was.repeats > 0 && !equal {
			group = append(group, slog.Int("last_repeats", was.repeats))
			was.repeats = 0
		}
		was.long, was.digest = long, digests[i]
		switch {
		case s.Total == 0 && len(group) == 0:
			continue
		case equal:
			was.repeats++
			group = append(group, slog.Int64("bytes", s.Total),
				slog.String("output", "equal-last"), slog.Int("repeats", was.repeats))
		default:
			group = appendEnds(append(group, slog.Int64("bytes", s.Total)), s.Stream)
		}
		attrs = append(attrs, slog.Attr{Key: s.name, Value: slog.GroupValue(group...)})
	}
	return attrs
}

// lastOf returns what is known of a command, and forgets the one that was not run for longest if there
// are too many.
func (o *logObserver) lastOf(key logKey) *lastOutputs {
	o.runs++
	last := o.last[key]
	if last == nil {
		if len(o.last) >= maxLogged {
			var oldest logKey
			used := o.runs
			for k, l := range o.last {
				if l.used < used {
					oldest, used = k, l.used
				}
			}
			delete(o.last, oldest)
		}
		last = new(lastOutputs)
		o.last[key] = last
	}
	last.used = o.runs
	return last
}

// digestOf returns the digest of an output that can be the same as another.
func digestOf(s Stream) (digest [sha256.Size]byte) {
	if len(s.data) <= logRepeat {
		return digest
	}
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, [2]int64{s.Total, int64(s.head)})
	h.Write(s.data)
	return [sha256.Size]byte(h.Sum(nil))
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
