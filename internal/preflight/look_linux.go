package preflight

import (
	"errors"
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// maxFiles is how many files one execve touches at most: a program and five interpreters, each a
// script of the one before (execve(2)), and what stands in the last line. A dynamic linker comes on top.
const maxFiles = 7

// An eye is a way to look: with or without waiting.
type eye struct {
	find func(dir int, path string) (sys.Place, error)
	read func(p sys.Place) (head, error)
}

var (
	cachedEye  = eye{sys.FindCached, func(sys.Place) (head, error) { return head{}, syscall.EAGAIN }}
	patientEye = eye{sys.Find, readHead}
)

// cached reports whether it could look, and found nothing wrong, without waiting for anybody.
func (l *Look) cached() bool {
	if l.abs {
		wd, err := sys.FindCached(sys.Cwd, os.Getenv("PWD"))
		if err != nil {
			return false
		}
		wd.Close()
	}
	dirErr, err := l.walk(&cachedEye)
	return dirErr == nil && err == nil
}

func (l *Look) look() {
	dirErr, _ := l.walk(&patientEye)
	l.badDir = dirErr != nil
}

// walk touches the directory and what execve reads, up to the first that the eye cannot find or
// read. Only execve knows whether a program can be executed: an unreadable one may well be executable.
func (l *Look) walk(e *eye) (dirErr, err error) {
	l.missing = ""
	dir := sys.Cwd
	if l.dir != "" {
		place, err := e.find(dir, l.dir)
		if err != nil {
			return err, nil
		}
		defer place.Close()
		if err := place.Searchable(); err != nil {
			return err, nil
		}
		dir = place.FD
	}
	path := l.path
	for i := range maxFiles {
		h, err := l.head(e, dir, path)
		if err != nil {
			if i > 0 && errors.Is(err, syscall.ENOENT) {
				l.missing = path
			}
			return nil, err
		}
		if path = h.interpreter; path == "" {
			return nil, nil
		}
		if h.last {
			linker, err := e.find(dir, path)
			if err != nil {
				if errors.Is(err, syscall.ENOENT) {
					l.missing = path
				}
				return nil, err
			}
			linker.Close()
			return nil, nil
		}
	}
	return nil, nil
}

// head returns what is known of the file at path, or reads it.
func (l *Look) head(e *eye, dir int, path string) (head, error) {
	place, err := e.find(dir, path)
	if err != nil {
		return head{}, err
	}
	defer place.Close()
	if place.Type != sys.TypeFile || l.user {
		return head{}, nil
	}
	if h, ok := heads.get(place.Version); ok {
		return h, nil
	}
	h, err := e.read(place)
	if err == nil {
		heads.put(place.Version, h)
	}
	return h, err
}
