package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/seed841d8200/safeexec"
)

// compactAfter is how many lines the file may have more than there are jobs.
const compactAfter = 1000

// A record is what the journal has of a job that this host has begun and that is not settled.
type record struct {
	ID      string                `json:"id"`
	Reply   string                `json:"reply"` // where the queue is answered
	Process *safeexec.ProcessInfo `json:"process,omitempty"`
	Result  *Result               `json:"result,omitempty"` // it has ended; perhaps not all know
	Settled bool                  `json:"settled,omitempty"`
}

// A journal is what one host has begun, on its own disk: each line is the whole of what is known of a job then, and is
// synced before the step that it announces. One process has it at a time.
type journal struct {
	path string
	lock *os.File

	mu    sync.Mutex
	file  *os.File
	open  map[string]record
	lines int
	left  map[string]record // by a predecessor, see leftover
}

func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	j := &journal{path: filepath.Join(dir, "journal"), lock: lock, open: map[string]record{}}
	text, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var r record
		if json.Unmarshal(line, &r) != nil {
			break // the last line of a machine that lost power; what it announced was not begun
		}
		j.keep(r)
	}
	j.left = map[string]record{}
	for id, r := range j.open {
		j.left[id] = r
	}
	if err := j.compact(); err != nil {
		lock.Close()
		return nil, err
	}
	return j, nil
}

func (j *journal) keep(r record) {
	if r.Settled {
		delete(j.open, r.ID)
		return
	}
	j.open[r.ID] = r
}

// begin takes the job for this host. It reports false, and what is known, if it is here already.
func (j *journal) begin(id, reply string) (r record, ok bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r, ok := j.open[id]; ok {
		return r, false, nil
	}
	r = record{ID: id, Reply: reply}
	return r, true, j.write(r)
}

func (j *journal) put(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(r)
}

func (j *journal) write(r record) error {
	if _, err := j.file.Write(append(encode(r), '\n')); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.keep(r)
	if j.lines++; j.lines > len(j.open)+compactAfter {
		return j.compact()
	}
	return nil
}

// compact writes the file anew, with what is open.
func (j *journal) compact() error {
	next, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for _, r := range j.open {
		if _, err = next.Write(append(encode(r), '\n')); err != nil {
			break
		}
	}
	if err == nil {
		err = errors.Join(next.Sync(), os.Rename(j.path+".new", j.path), syncDir(filepath.Dir(j.path)))
	}
	if err != nil {
		next.Close()
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.lines = next, len(j.open)
	return nil
}

func (j *journal) close() error { return errors.Join(j.file.Close(), j.lock.Close()) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
