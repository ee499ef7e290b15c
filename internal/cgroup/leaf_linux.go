package cgroup

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Leaf is the cgroup of one command. It belongs to one goroutine.
type Leaf struct {
	dir    string
	name   string // the last element of dir
	fd     int    // the directory, which holds the lock
	events int    // cgroup.events
}

// makeTries is how often a leaf is made anew because a remover got hold of it before its owner had.
const makeTries = 5

var errTaken = errors.New("is removed as fast as it is made")

// Make makes a leaf below parent, the directory of a cgroup, or below our own cgroup if parent is
// empty. Every error is an *[Error].
func Make(parent string) (*Leaf, error) {
	if parent == "" {
		dir, err := ownDir()
		if err != nil {
			return nil, err
		}
		parent = dir
	} else if err := checkV2(parent); err != nil {
		return nil, err
	}
	for range makeTries {
		l, err := newLeaf(parent)
		if l != nil || err != nil {
			return l, err
		}
	}
	return nil, &Error{Op: "make a leaf", Dir: parent, Err: errTaken}
}

// newLeaf makes one leaf and locks it. It is nil without an error where a remover came between.
func newLeaf(parent string) (*Leaf, error) {
	name := newName(os.Getpid(), rand.Uint64())
	l := &Leaf{dir: filepath.Join(parent, name), name: name, fd: -1, events: -1}
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		return nil, &Error{Op: "make a leaf", Dir: parent, Err: cause(err)}
	}
	err := l.open()
	if err == nil {
		return l, nil
	}
	l.Close()
	if errors.Is(err, fs.ErrNotExist) || sys.Locked(err) {
		return nil, nil //nolint:nilnil // the caller tries again
	}
	_ = sys.Rmdir(l.dir)
	return nil, &Error{Op: "open", Dir: l.dir, Err: err}
}

func (l *Leaf) open() (err error) {
	if l.fd, err = sys.OpenDir(l.dir); err != nil {
		return err
	}
	if err := sys.LockShared(l.fd); err != nil {
		return err
	}
	if l.events, err = sys.OpenRead(l.dir + "/cgroup.events"); err != nil {
		return err
	}
	_, err = os.Lstat(l.dir) // a remover may have had it before the lock was ours
	return err
}

// cause strips an error of the path that it names, which an Error names itself.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Dir returns the leaf's directory.
func (l *Leaf) Dir() string { return l.dir }

// Attach has the child of attr begin its life in the leaf, so that there is no moment to escape in.
func (l *Leaf) Attach(attr *syscall.SysProcAttr) { sys.IntoCgroup(attr, l.fd) }

// Named reports whether attr names a cgroup already.
func Named(attr *syscall.SysProcAttr) bool { return sys.NamesCgroup(attr) }

// Refusal tells why a start into the leaf failed: nil if it was not for the leaf. The errors of a clone
// into a cgroup, which may be for want of permission on the common ancestor, for a controller that rules
// out processes here, or for a kernel or a seccomp filter without clone3, can be those of an execve as
// well. So a program without a name is started there, whose execve is ENOENT and nothing else
// (path_resolution(7)).
func (l *Leaf) Refusal() error {
	var attr syscall.SysProcAttr
	l.Attach(&attr)
	_, err := os.StartProcess("", []string{""}, &os.ProcAttr{Sys: &attr})
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM): // the start itself says more
		return nil
	}
	return &Error{Op: "clone into", Dir: l.dir, Err: cause(err)}
}

// EventsFD returns the descriptor of cgroup.events, which has something urgent to read, EPOLLPRI, when
// [Leaf.Populated] changes. It has until Populated is asked.
func (l *Leaf) EventsFD() int { return l.events }

// Populated reports whether there is a live process in the leaf or below it. A zombie is none.
func (l *Leaf) Populated() (bool, error) {
	var buf [256]byte
	n, err := sys.ReadStart(l.events, buf[:])
	switch {
	case gone(err): // only what is empty can be removed
		return false, nil
	case err != nil:
		return false, &Error{Op: "cgroup.events", Dir: l.dir, Err: err}
	}
	populated, ok := value(buf[:n], "populated")
	if !ok {
		return false, &Error{Op: "cgroup.events", Dir: l.dir, Err: errors.New("does not say populated")}
	}
	return populated != 0, nil
}

// PIDs calls f with each process in the leaf and below it, until f returns false. A process that moves
// meanwhile from one to another may be missed or named twice. One that our PID namespace does not have
// is left out.
func (l *Leaf) PIDs(f func(pid int) bool) error {
	more := true
	return walk(l.dir, func(dir string) error {
		text, err := os.ReadFile(dir + "/cgroup.procs")
		if sys.NotSupported(err) { // threaded: its processes are listed by the root of the threads
			return nil
		}
		numbers(text, func(pid int) bool {
			more = more && (pid <= 0 || f(pid))
			return more
		})
		return err
	})
}

// Contains reports whether pid is in the leaf or below it. It may be asked about any number.
func (l *Leaf) Contains(pid int) bool {
	groups, err := procfs.ReadCGroups(pid)
	if err != nil {
		return false
	}
	for _, g := range groups {
		if g.Hierarchy == 0 {
			for element := range strings.SplitSeq(g.Path, "/") {
				if element == l.name {
					return true
				}
			}
		}
	}
	return false
}

// OOMKilled reports whether the kernel killed a process of the leaf for want of memory: that of the
// leaf's own limit, of one above it, or the machine's. Without the memory controller that cannot be
// told, and it is false.
func (l *Leaf) OOMKilled() bool {
	text, err := os.ReadFile(l.dir + "/memory.events")
	if err != nil {
		return false
	}
	kills, _ := value(text, "oom_kill")
	groups, _ := value(text, "oom_group_kill")
	return kills+groups > 0
}

// Remove removes the leaf and what the command made below it, and closes it. Processes on their last
// instructions are waited for until the given time, and what was not come to by then is left; once it
// tries in any case. An error says that the leaf is left, unlocked.
func (l *Leaf) Remove(until time.Time) error {
	err := remove(l.dir, until)
	l.Close()
	return err
}

// Close closes the leaf and leaves it as it is, for [RemoveStale] to find.
func (l *Leaf) Close() {
	for _, fd := range [...]*int{&l.events, &l.fd} {
		if *fd >= 0 {
			sys.Close(*fd)
			*fd = -1
		}
	}
}
