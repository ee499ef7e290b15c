package safeexec

import (
	"io"
	"os/exec"
	"sync"

	"github.com/seed841d8200/safeexec/internal/engine"
)

type teeOption [2]io.Writer

func (o teeOption) apply(c *config) { c.tee = o }

// WithTee has output that is kept in the [Result] also written to these Writers, as it comes: stdout, stderr, or both;
// nil for none. It is for streams whose field in the command is nil. What is kept does not depend on the Writer: one
// that fails or blocks is treated as cmd.Stdout would be, with [ErrWriterFailed] or [ErrWriterStuck], while the bytes
// are kept all the same. If both are one Writer it is never called twice at once.
func WithTee(stdout, stderr io.Writer) Option { return teeOption{stdout, stderr} }

// WithMergedOutput gives the command one pipe for standard output and standard error: both are in Result.Stdout, in the
// order in which they were written, and go to the Writer or the file in cmd.Stdout if there is one. cmd.Stderr must be
// nil. [CombinedOutput] has it.
func WithMergedOutput() Option { return mergeOption{} }

func (c *config) checkTee(cmd *exec.Cmd) error {
	switch {
	case c.merge && cmd.Stderr != nil && !sameWriter(cmd.Stdout, cmd.Stderr):
		return &ConfigError{Name: "WithMergedOutput", Reason: "and Stderr are both set"}
	case c.merge && c.tee[1] != nil:
		return &ConfigError{Name: "WithTee", Reason: "has a Writer for standard error, which is merged"}
	case c.tee[0] != nil && cmd.Stdout != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stdout are both set"}
	case c.tee[1] != nil && cmd.Stderr != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stderr are both set"}
	case c.lines != nil && cmd.Stdout != nil && (cmd.Stderr != nil || c.merge):
		return &ConfigError{Name: "WithLines", Reason: "needs an output that the command has no Writer or file for"}
	}
	return nil
}

// tees returns where an output goes besides being kept; nil if nowhere.
func (r *run) tees(fd int) *engine.Fanout {
	var f engine.Fanout
	if w := r.cfg.tee[fd-1]; w != nil {
		if r.teeLock == nil && sameWriter(r.cfg.tee[0], r.cfg.tee[1]) {
			r.teeLock = new(sync.Mutex)
		}
		f.To = append(f.To, engine.Follower{Writer: engine.Alone(w, r.teeLock), End: lastLine(w)})
	}
	if r.cfg.lines != nil {
		w := r.lineWriter(fd)
		f.To = append(f.To, engine.Follower{Writer: w, End: w.end})
	}
	if f.To == nil {
		return nil
	}
	return &f
}
