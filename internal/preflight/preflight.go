// Package preflight looks at what a start will touch, by ordinary system calls that a goroutine can
// be left behind in.
//
// A child that was vforked and is stuck in chdir or execve, on a FUSE or NFS mount whose server is
// dead, holds one of the Go runtime's processors: the next garbage collection, or GOMAXPROCS=1,
// then freezes the whole program, and no timer fires. So the directory is touched beforehand, and what
// execve reads: the beginning of the program, of the interpreters of its #! lines, and of the dynamic
// linker that an ELF program names (PT_INTERP).
//
// Not looked at is what else the kernel or the program opens: the interpreters that are registered with
// binfmt_misc, and the shared libraries, which the child opens by itself when it no longer holds a
// processor of ours.
//
// What can be touched without waiting, which is most, is touched without a goroutine: to start one
// wakes a thread, and that costs more than all else that is done before a start.
package preflight

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Look is one examination. Done may be asked while it is under way.
type Look struct {
	dir, path string
	notify    func()
	done      atomic.Bool
	wanted    atomic.Bool // notify is to be called
	dirErr    error
}

// pages lends the beginning of the file at hand; most ELF programs name their interpreter in it.
var pages = sync.Pool{New: func() any { return new([1024]byte) }}

// scriptLine is as much as the kernel reads of a #! line (BINPRM_BUF_SIZE).
const scriptLine = 256

// Begin looks at dir, unless it is empty, and at the program at path, a name relative to dir as it
// is to the child. That takes microseconds or for ever. Await asks for a call of notify at the end.
func (l *Look) Begin(dir, path string, notify func()) {
	l.dir, l.path, l.notify = dir, path, notify
	if l.cached() {
		l.done.Store(true)
		return
	}
	go l.run()
	runtime.Gosched() // it is over by the time this one goes on, or takes its time
}

// Done reports whether the look is over.
func (l *Look) Done() bool { return l.done.Load() }

// Await reports whether the look is over. If not, notify will be called when it is.
func (l *Look) Await() bool {
	l.wanted.Store(true) // before the look at done, as run stores done before it looks at wanted
	return l.done.Load()
}

// DirErr returns why dir can not be a working directory, as os/exec would say it. It is valid once
// Done.
func (l *Look) DirErr() error { return l.dirErr }

// cached reports whether it could look, and found nothing wrong, without waiting for anybody.
func (l *Look) cached() bool {
	if l.dir != "" && sys.SearchableCached(l.dir) != nil {
		return false
	}
	return l.program(sys.PeekCached) == nil
}

func (l *Look) run() {
	sys.LearnRoot() // for cached, the next time
	l.look()
	l.done.Store(true)
	if l.wanted.Load() {
		l.notify()
	}
}

func (l *Look) look() {
	if l.dir != "" {
		info, err := os.Stat(l.dir)
		switch {
		case err != nil:
		case !info.IsDir():
			err = syscall.ENOTDIR
		default:
			err = sys.Searchable(l.dir)
		}
		if err != nil {
			l.dirErr = chdirError(l.dir, err)
			return
		}
	}
	_ = l.program(sys.Peek)
}

func chdirError(dir string, err error) error {
	if pe, ok := err.(*os.PathError); ok { //nolint:errorlint // os.Stat returns it unwrapped
		err = pe.Err
	}
	return &os.PathError{Op: "chdir", Path: dir, Err: err}
}

// maxFiles is how many files one execve touches at most: a program and five interpreters, each a
// script of the one before (execve(2)), and what stands in the last line. A dynamic linker comes on top.
const maxFiles = 7

// A peekFunc reads a file from offset on; see [sys.Peek].
type peekFunc func(path string, p []byte, offset int64) (int, error)

// program touches the program and the interpreters of its #! lines, up to the first that peek can
// not read. Whether they can be executed is left to execve, the only one who knows: an unreadable
// program may well be executable.
func (l *Look) program(peek peekFunc) error {
	page := pages.Get().(*[1024]byte)
	defer pages.Put(page)
	path := l.path
	for range maxFiles {
		path = l.fromDir(path)
		n, err := peek(path, page[:], 0)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(page[:n], []byte(elfMagic)) {
			return l.linker(peek, path, page[:n])
		}
		interpreter, ok := bytes.CutPrefix(page[:min(n, scriptLine)], []byte("#!"))
		if !ok {
			return nil
		}
		interpreter, _, _ = bytes.Cut(interpreter, []byte("\n"))
		fields := bytes.Fields(interpreter)
		if len(fields) == 0 {
			return nil
		}
		path = string(fields[0])
	}
	return nil
}

// linker touches the dynamic linker of the ELF program at path, which begins with page. What lies
// beyond page is read in the same way.
func (l *Look) linker(peek peekFunc, path string, page []byte) error {
	interpreter, err := elfInterpreter(func(offset, size uint64) ([]byte, error) {
		if have := uint64(len(page)); offset <= have && size <= have-offset {
			return page[offset : offset+size], nil
		}
		p := make([]byte, size)
		n, err := peek(path, p, int64(offset))
		if err == nil && n < len(p) {
			err = io.ErrUnexpectedEOF
		}
		return p, err
	})
	if err != nil || len(interpreter) == 0 {
		return err
	}
	_, err = peek(l.fromDir(interpreterPath(interpreter)), page[:1], 0)
	return err
}

// fromDir returns path as this process has to say it.
func (l *Look) fromDir(path string) string {
	if l.dir != "" && !filepath.IsAbs(path) {
		return filepath.Join(l.dir, path)
	}
	return path
}
