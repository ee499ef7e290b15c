package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// walk calls f with dir and each directory below it, parents first. What is gone meanwhile is no error;
// the first other one is returned, and the walk goes on.
func walk(dir string, f func(dir string) error) (first error) {
	dirs := []string{dir}
	note := func(err error) {
		if first == nil && err != nil && !gone(err) {
			first = &Error{Op: "list", Dir: dir, Err: err}
		}
	}
	for i := 0; i < len(dirs); i++ {
		note(f(dirs[i]))
		if some, err := sys.Subdirs(dirs[i]); !some {
			note(err)
			continue
		}
		entries, err := os.ReadDir(dirs[i])
		note(err)
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(dirs[i], e.Name()))
			}
		}
	}
	return first
}

// The pauses between two tries to remove what is still in use.
const (
	firstPause = 50 * time.Microsecond
	lastPause  = 10 * time.Millisecond
)

// remove removes dir and what is below it. EBUSY means that a process has not quite left, or that a
// child was made meanwhile; both pass, and are waited for until the given time. Then the rest is left,
// however much it is: a command may make as many as it likes.
func remove(dir string, until time.Time) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := removeBelow(dir, until)
		if err == nil || !sys.Busy(err) || !time.Now().Before(until) {
			return err
		}
		time.Sleep(min(pause, time.Until(until)))
	}
}

// removeBelow tries each once, children first, and dir at least, which is the common case: a leaf has
// none below. It returns the last error.
func removeBelow(dir string, until time.Time) error {
	err := sys.Rmdir(dir)
	if err == nil || gone(err) {
		return nil
	}
	last := error(&Error{Op: "remove", Dir: dir, Err: err})
	dirs := subdirs(dir, until)
	if len(dirs) == 0 {
		return last
	}
	for _, d := range dirs {
		if !time.Now().Before(until) {
			return last
		}
		if err := removeBelow(d, until); err != nil {
			last = err
		}
	}
	if err := sys.Rmdir(dir); err != nil && !gone(err) {
		return last
	}
	return nil
}

// listChunk is how many entries of a directory are read between two looks at the time.
const listChunk = 512

// subdirs lists the directories in dir, as many as it comes to until the given time. It holds no
// descriptor while they are removed: they may be nested deeper than there are descriptors.
func subdirs(dir string, until time.Time) (dirs []string) {
	if some, _ := sys.Subdirs(dir); !some || !time.Now().Before(until) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	for time.Now().Before(until) {
		entries, err := f.ReadDir(listChunk)
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(dir, e.Name()))
			}
		}
		if err != nil {
			break
		}
	}
	return dirs
}

// staleBound is how long the processes of one stale leaf have to die.
const staleBound = 2 * time.Second

// RemoveStale removes the leaves below parent, our own cgroup if it is empty, whose owners are gone, and
// kills what is left in them. It returns how many it removed, and the first error.
func RemoveStale(parent string) (removed int, first error) {
	if parent == "" {
		dir, err := ownDir()
		if err != nil {
			return 0, err
		}
		parent = dir
	} else if err := checkV2(parent); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0, &Error{Op: "list", Dir: parent, Err: cause(err)}
	}
	for _, e := range entries {
		if !e.IsDir() || !isName(e.Name()) {
			continue
		}
		ok, err := removeStale(filepath.Join(parent, e.Name()))
		if ok {
			removed++
		}
		if first == nil && err != nil {
			first = err
		}
	}
	return removed, first
}

// EndStale does that to one leaf. It reports true once the leaf is gone, by whomever, and false while its owner, or a
// child of the owner on its way to execve, has the lock.
func EndStale(dir string) (bool, error) {
	if !isName(filepath.Base(dir)) {
		return false, &Error{Op: "end", Dir: dir, Err: errNoLeaf}
	}
	ended, err := removeStale(dir)
	if !ended && err == nil {
		_, err := os.Stat(dir)
		return gone(err), nil
	}
	return ended, err
}

var errNoLeaf = errors.New("is no cgroup of a run")

// Watch opens a leaf that another process has made, without the lock, so that it is still removed by EndStale.
func Watch(dir string) (*Leaf, error) {
	if !isName(filepath.Base(dir)) {
		return nil, &Error{Op: "open", Dir: dir, Err: errNoLeaf}
	}
	l := &Leaf{dir: dir, name: filepath.Base(dir), fd: -1}
	var err error
	if l.events, err = sys.OpenRead(dir + "/cgroup.events"); err != nil {
		return nil, &Error{Op: "open", Dir: dir, Err: cause(err)}
	}
	return l, nil
}

// removeStale removes one leaf, and reports whether it did. The lock, which it has until it is done,
// keeps off the owner of a leaf that was just made, and other removers.
func removeStale(dir string) (bool, error) {
	l := &Leaf{dir: dir, name: filepath.Base(dir), fd: -1, events: -1}
	defer l.Close()
	fail := func(op string, err error) (bool, error) {
		if gone(err) {
			return false, nil // by another remover, or by its owner
		}
		return false, &Error{Op: op, Dir: dir, Err: cause(err)}
	}
	var err error
	if l.fd, err = sys.OpenDir(dir); err != nil {
		return fail("open", err)
	}
	if err := sys.LockExclusive(l.fd); sys.Locked(err) {
		return false, nil
	} else if err != nil {
		return fail("lock", err)
	}
	if l.events, err = sys.OpenRead(dir + "/cgroup.events"); err != nil {
		return fail("open", err)
	}
	until := time.Now().Add(staleBound)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		populated, err := l.Populated()
		if err != nil {
			return false, err
		}
		if !populated {
			break
		}
		if err := l.Kill(); err != nil {
			return false, err
		}
		if !time.Now().Before(until) {
			break // remove says EBUSY
		}
		time.Sleep(pause)
	}
	if err := remove(dir, until); err != nil {
		return false, err
	}
	return true, nil
}
