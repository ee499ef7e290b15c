package cgroup

import (
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

var (
	errNoMount  = errors.New("no cgroup v2 file system is mounted")
	errOutside  = errors.New("our own cgroup lies outside of what is mounted")
	errNotV2    = errors.New("is not on a cgroup v2 file system")
	errNoCgroup = errors.New("this process is in no cgroup v2 hierarchy")
)

// A place is where our own cgroup was found: under its path in the hierarchy, on that mount. To read what is
// mounted takes as long as to make a cgroup and to remove it, and many times that where much is mounted.
type place struct {
	path, dir string
	mount     uint64
}

var ownPlace atomic.Pointer[place]

// ownDir returns the directory of our own cgroup. It is where it was as long as its path and its mount are the
// same: what a mount shows does not change. That misses a process that has also moved to another cgroup namespace
// in which another cgroup has the path of before.
func ownDir() (string, error) {
	own, err := procfs.ReadCGroups(procfs.Self)
	if err != nil {
		return "", &Error{Op: "find our own", Err: err}
	}
	path := pathOf(own)
	if p := ownPlace.Load(); p != nil && p.path == path {
		if mount, ok := sys.MountOf(p.dir); ok && mount == p.mount && checkV2(p.dir) == nil {
			return p.dir, nil
		}
	}
	mounts, err := procfs.ReadMountInfo(procfs.Self)
	if err != nil {
		return "", &Error{Op: "find the mount", Err: err}
	}
	dir, err := locate(mounts, path, checkV2)
	if err != nil {
		return "", err
	}
	if mount, ok := sys.MountOf(dir); ok {
		ownPlace.Store(&place{path: path, dir: dir, mount: mount})
	}
	return dir, nil
}

// pathOf returns the path in the v2 hierarchy; empty for none.
func pathOf(groups []procfs.CGroup) string {
	path := ""
	for _, g := range groups {
		if g.Hierarchy == 0 {
			path = g.Path
		}
	}
	return path
}

// checkV2 returns an error unless dir is a cgroup. What /proc/self/mountinfo lists may have been hidden
// since by another mount over it, and a hybrid host has a tmpfs with v1 hierarchies where others have v2.
func checkV2(dir string) error {
	v2, err := sys.IsCgroup2(dir)
	if err == nil && !v2 {
		err = errNotV2
	}
	if err != nil {
		return &Error{Op: "look", Dir: dir, Err: err}
	}
	return nil
}

// locate finds the directory of our own cgroup in the mounts. Both the path in /proc/self/cgroup and the
// root of a mount, field 4 of mountinfo, are relative to our cgroup namespace: what the mount shows is
// what the first has behind the second. The last mount that shows it counts, since it may lie over
// others.
func locate(mounts []procfs.Mount, path string, check func(dir string) error) (string, error) {
	if path == "" {
		return "", &Error{Op: "find our own", Err: errNoCgroup}
	}
	failed := error(&Error{Op: "find the mount", Err: errNoMount})
	for i := len(mounts) - 1; i >= 0; i-- {
		m := mounts[i]
		if m.FSType != "cgroup2" {
			continue
		}
		below, ok := within(path, m.Root)
		if !ok {
			failed = &Error{Op: "find our own", Dir: m.MountPoint, Err: errOutside}
			continue
		}
		dir := strings.TrimSuffix(m.MountPoint, "/") + below
		if err := check(dir); err != nil {
			failed = err
			continue
		}
		return dir, nil
	}
	return "", failed
}

// within returns what path has behind root: "" or something that begins with a slash. Where a namespace
// begins below what is mounted, roots and paths begin with "/..", and what is behind must not.
func within(path, root string) (string, bool) {
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	if !ok || below != "" && below[0] != '/' || below == "/.." || strings.HasPrefix(below, "/../") {
		return "", false
	}
	return strings.TrimSuffix(below, "/"), true
}

// gone reports whether err says that a cgroup was removed: its name is no more, or its files are dead.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || sys.NoDevice(err) }
