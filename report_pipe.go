package safeexec

import (
	"context"

	"github.com/seed841d8200/safeexec/internal/diagnose"
)

// A PipeUse says who has a pipe open, and how full it is.
type PipeUse struct {
	Inode   uint64   // as in the pipe:[INODE] of /proc/PID/fd
	Readers []Holder // a process that has it open for both is in both lists
	Writers []Holder
	Filled  int // bytes that nobody has read yet; -1 if unknown
	Size    int // bytes that it can hold; -1 if unknown
	Unseen  int // processes whose descriptors may not be seen: they may have it too
}

// ExplainPipe finds the processes that have a pipe open, by the number in the pipe:[INODE] of
// /proc/PID/fd. It looks at every process of the machine, until ctx is done. The error is that of ctx,
// or [ErrUnsupported] except on Linux.
func ExplainPipe(ctx context.Context, inode uint64) (PipeUse, error) {
	if !diagnose.Supported {
		return PipeUse{}, ErrUnsupported
	}
	found := diagnose.Pipe(inode, func() bool { return ctx.Err() != nil })
	return PipeUse{
		Inode: inode, Readers: byProcess(found.Readers), Writers: byProcess(found.Writers),
		Filled: found.Filled, Size: found.Size, Unseen: found.Unseen,
	}, ctx.Err()
}

// byProcess puts the descriptors of one process together.
func byProcess(ends []diagnose.End) []Holder {
	var f ReportFD
	for _, e := range ends {
		f.addEnd(e)
	}
	return f.Ends
}
