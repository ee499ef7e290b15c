package preflight

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A head is what the beginning of a file says.
type head struct {
	interpreter string // empty for none
	last        bool   // the interpreter is a dynamic linker, and has none itself
}

// heads holds what was read. A host runs the same few programs again and again.
var heads cache

const maxHeads = 1024

type cache struct {
	mu    sync.Mutex
	known map[sys.Version]head
}

func (c *cache) get(v sys.Version) (head, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.known[v]
	return h, ok
}

func (c *cache) put(v sys.Version, h head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxHeads {
		c.known = make(map[sys.Version]head)
	}
	c.known[v] = h
}

// kept holds the descriptors of files that cannot be closed yet, as this process has a lock on them. Where
// there are too many no further file is read.
var kept struct {
	sync.Mutex
	fds []int
}

const maxKept = 64

var errTooManyKept = errors.New("too many locked files are open")

// sweepKept closes what is no longer locked.
func sweepKept() error {
	kept.Lock()
	defer kept.Unlock()
	kept.fds = slices.DeleteFunc(kept.fds, sys.CloseUnlocked)
	if len(kept.fds) >= maxKept {
		return errTooManyKept
	}
	return nil
}

// pages lends the beginning of the file at hand; most ELF programs name their interpreter in it.
var pages = sync.Pool{New: func() any { return new([1024]byte) }}

// scriptLine is as much as the kernel reads of a #! line (BINPRM_BUF_SIZE).
const scriptLine = 256

// readHead reads the beginning of a file.
func readHead(place sys.Place) (head, error) {
	if err := sweepKept(); err != nil {
		return head{}, err
	}
	fd, err := place.OpenRegular()
	if err != nil {
		return head{}, err
	}
	defer func() {
		if !sys.CloseUnlocked(fd) {
			kept.Lock()
			kept.fds = append(kept.fds, fd)
			kept.Unlock()
		}
	}()
	page := pages.Get().(*[1024]byte)
	defer pages.Put(page)
	n, err := sys.Pread(fd, page[:], 0)
	if err != nil {
		return head{}, err
	}
	if !bytes.HasPrefix(page[:n], []byte(elfMagic)) {
		return head{interpreter: scriptInterpreter(page[:min(n, scriptLine)])}, nil
	}
	linker, err := elfInterpreter(func(offset, size uint64) ([]byte, error) {
		if have := uint64(n); offset <= have && size <= have-offset {
			return page[offset : offset+size], nil
		}
		p := make([]byte, size)
		n, err := sys.Pread(fd, p, int64(offset))
		if err == nil && n < len(p) {
			err = errNotLoadable
		}
		return p, err
	})
	if err != nil && !errors.Is(err, errNotLoadable) {
		return head{}, err
	}
	return head{interpreter: string(linker), last: true}, nil
}

// scriptInterpreter returns the interpreter that a #! line names, as load_script of Linux reads it:
// words are parted by spaces and tabs alone, so that a carriage return belongs to the name.
func scriptInterpreter(line []byte) string {
	line, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line = bytes.TrimLeft(line, " \t")
	if end := bytes.IndexAny(line, " \t\x00"); end >= 0 {
		line = line[:end]
	}
	return string(line)
}
