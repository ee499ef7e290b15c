package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A leaf is a cgroup for one command, cgroups(7).
type leaf struct {
	path string
	dir  *os.File
}

// newLeaf makes one below our own cgroup.
func newLeaf() (*leaf, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	for mount := range strings.Lines(string(mounts)) {
		fields := strings.Fields(mount)
		if !strings.Contains(mount, " - cgroup2 ") || len(fields) < 5 {
			continue
		}
		for line := range strings.Lines(string(own)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				dir, err := os.MkdirTemp(filepath.Join(fields[4], path), "bench-")
				if err != nil {
					return nil, err
				}
				f, err := os.Open(dir)
				return &leaf{dir, f}, err
			}
		}
	}
	return nil, errors.New("there is no cgroup2")
}

// kill ends all processes in it and returns when the kernel says that it is empty.
func (l *leaf) kill() error {
	events, err := os.Open(filepath.Join(l.path, "cgroup.events"))
	if err != nil {
		return err
	}
	defer events.Close()
	if err := os.WriteFile(filepath.Join(l.path, "cgroup.kill"), []byte("1"), 0); err != nil {
		return err
	}
	buf := make([]byte, 128)
	for {
		n, err := events.ReadAt(buf, 0)
		if n == 0 {
			return err
		}
		if bytes.Contains(buf[:n], []byte("populated 0")) {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 10_000); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// remove waits for those who are dying still.
func (l *leaf) remove() {
	l.dir.Close()
	for range 100 {
		if os.Remove(l.path) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
