package shell

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// What the model gets to see of an output, in bytes: where it is longer, what is between is left out.
const (
	headSize = 4 << 10
	tailSize = 8 << 10
)

// excerpt returns the head and the tail of the file, as text.
func excerpt(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	size := info.Size()
	if size <= headSize+tailSize {
		all, err := io.ReadAll(io.LimitReader(f, headSize+tailSize))
		return text(all), err
	}
	head, tail := make([]byte, headSize), make([]byte, tailSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	if _, err := f.ReadAt(tail, size-tailSize); err != nil {
		return "", err
	}
	if i := bytes.LastIndexByte(head, '\n'); i >= 0 {
		head = head[:i+1]
	}
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && i+1 < len(tail) {
		tail = tail[i+1:]
	}
	if head[0] == 0 { // the oldest was given up, and the file begins with a hole
		head = nil
	}
	left := size - int64(len(head)+len(tail))
	return fmt.Sprintf("%s\n[%d bytes are left out here]\n\n%s", text(head), left, text(tail)), nil
}

// text makes valid UTF-8 of what a command wrote: JSON carries nothing else. Colors, and what else is for a terminal
// alone, go as well: a model pays for them, and may take them for orders.
func text(p []byte) string {
	var s strings.Builder
	for line := range strings.Lines(strings.ToValidUTF8(string(p), "\uFFFD")) {
		s.WriteString(ansi.Strip(line)) // one at a time: a sequence that does not end hides no other
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s.String())
}
