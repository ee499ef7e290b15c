// Package preflight looks at what a start will touch, by ordinary system calls that a goroutine can
// be left behind in.
//
// A child that was vforked and is stuck in chdir or execve, on a FUSE or NFS mount whose server is
// dead, holds one of the Go runtime's processors: the next garbage collection, or GOMAXPROCS=1,
// then freezes the whole program, and no timer fires. So the directory is touched beforehand, and what
// execve reads: the program, the interpreters of its #! lines, and the dynamic linker that an ELF
// program names (PT_INTERP).
//
// To look is not to open: a file is found with O_PATH, and its file system asked what it is. Only to
// learn its interpreter is a regular file read, once for each version of it.
//
// It does not look at what else the kernel or the program opens: interpreters that are registered with
// binfmt_misc, and shared libraries, which the child opens by itself when it no longer holds a processor
// of ours. It looks at nothing for a command in another root directory, and at no interpreter for one of
// another user, which may not be able to read what we can. For a caller that is locked to a thread with a
// working directory, a root directory or mounts of its own it looks, on that thread, only at what it can
// find without waiting: no other thread can look for it.
//
// What can be touched without waiting, which is most, is touched without a goroutine: to start one
// wakes a thread, and that costs more than all else that is done before a start.
package preflight

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Look is one examination. Done may be asked while it is under way.
type Look struct {
	dir, path string
	abs       bool // os/exec will ask for the absolute path of dir
	user      bool // the command is another user's
	thread    int  // that asked
	notify    func()
	done      atomic.Bool
	wanted    atomic.Bool // notify is to be called
	badDir    bool
	missing   string
}

// Begin looks at the directory and the program of a command, as the child will find them. That takes
// microseconds or for ever. Await asks for a call of notify at the end.
func (l *Look) Begin(cmd *exec.Cmd, notify func()) {
	l.dir, l.path, l.notify = cmd.Dir, cmd.Path, notify
	l.abs = cmd.Env == nil && cmd.Dir != "" && !filepath.IsAbs(cmd.Dir)
	l.user = sys.ChangesUser(cmd.SysProcAttr)
	if sys.ChangesRoot(cmd.SysProcAttr) || l.cached() {
		l.done.Store(true)
		return
	}
	l.thread = sys.ThreadID()
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

// BadDir reports whether the directory does not look like one that can be a working directory. The
// look was another thread's, with the rights of that: [DirError] has the last word. It is valid once
// Done.
func (l *Look) BadDir() bool { return l.badDir }

// Missing returns the interpreter, of the program or of its interpreter, that is not there, as the
// file says it; empty if that is not so or not known. It is valid once Done.
func (l *Look) Missing() string { return l.missing }

// DirError returns why dir cannot be a working directory, as os/exec would say it. It asks on the
// calling thread, and is for what was looked at before.
func DirError(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
	case !info.IsDir():
		err = syscall.ENOTDIR
	default:
		err = sys.Searchable(dir)
	}
	if err == nil {
		return nil
	}
	if pe, ok := err.(*os.PathError); ok { //nolint:errorlint // os.Stat returns it unwrapped
		err = pe.Err
	}
	return &os.PathError{Op: "chdir", Path: dir, Err: err}
}

func (l *Look) run() {
	if sys.SeesAlike(l.thread) {
		sys.LearnRoot() // for cached, the next time
		if l.abs {
			_, _ = os.Getwd() // touches $PWD and the working directory, as os/exec will
		}
		l.look()
	}
	l.done.Store(true)
	if l.wanted.Load() {
		l.notify()
	}
}
