package safeexec

import (
	"io"

	"github.com/seed841d8200/safeexec/internal/lines"
)

// Prefix returns a Writer for cmd.Stdout, cmd.Stderr or [WithTee] that writes each line to w with a prefix, as it
// comes:
//
//	cmd.Stdout = safeexec.Prefix(os.Stdout, "step | ")
//
// Any number of them can write to one w, which need not be safe for concurrent use: no line is torn. Lines are those of
// [WithLines]; one over 64 KiB becomes several. A last line without an end is written when the stream of the
// run has ended, and by Close where the Writer is used in another way. Close does not close w.
func Prefix(w io.Writer, prefix string) io.WriteCloser { return lines.NewPrefixer(w, prefix) }

// lastLine returns what writes the last line to a Writer; nil if nothing is to be done.
func lastLine(w io.Writer) func() error {
	if p, ok := w.(*lines.Prefixer); ok {
		return p.Close
	}
	return nil
}
