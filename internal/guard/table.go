package guard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A Run is what has to be known of a run to end it without the program that started it.
type Run struct {
	Program string         `json:"program"` // the last element of its path
	Trace   proctree.Trace `json:"trace"`   // of the tree; of one that is not started yet without a leader
	Ladder  Ladder         `json:"ladder"`
	Cgroup  string         `json:"cgroup,omitempty"` // the directory of the run's own cgroup; empty without one
}

// A place in the table is a page: in its first part a run as it will be started, in its second the trace of the
// run that was started. Each begins with the length of what follows, 0 for none.
const (
	placeSize   = 4096
	startedAt   = 3072
	lengthBytes = 4
)

// errTooLong says that a run has no room in its place: the path of its cgroup is very long.
var errTooLong = errors.New("what the guard has to know of the run is too long")

// A table is the runs of a program, in a file.
type table struct{ file *os.File }

func (t table) set(place int, run Run) error {
	if err := t.clear(place, startedAt); err != nil {
		return err
	}
	return t.write(place, 0, startedAt, run)
}

func (t table) started(place int, trace proctree.Trace) error {
	return t.write(place, startedAt, placeSize-startedAt, trace)
}

func (t table) write(place, at, room int, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if len(text) > room-lengthBytes {
		return errTooLong
	}
	record := binary.LittleEndian.AppendUint32(make([]byte, 0, lengthBytes+len(text)), uint32(len(text)))
	_, err = t.file.WriteAt(append(record, text...), int64(place)*placeSize+int64(at))
	return err
}

// remove takes a run out. The first part goes last: a trace alone says nothing.
func (t table) remove(place int) {
	_ = t.clear(place, 0)
	_ = t.clear(place, startedAt)
}

func (t table) clear(place, at int) error {
	var none [lengthBytes]byte
	_, err := t.file.WriteAt(none[:], int64(place)*placeSize+int64(at))
	return err
}

// An entry is a run that the table holds.
type entry struct {
	Run
	begun bool // its leader is known
}

// read returns the runs. What it can not make sense of it leaves out, and says so.
func (t table) read() ([]entry, error) {
	var runs []entry
	var page [placeSize]byte
	var bad error
	for place := 0; ; place++ {
		n, err := t.file.ReadAt(page[:], int64(place)*placeSize)
		if n == 0 {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return runs, errors.Join(bad, err)
		}
		clear(page[n:])
		var e entry
		there, err := decode(page[:startedAt], &e.Run)
		if err != nil {
			bad = fmt.Errorf("place %d of the table: %w", place, err)
		}
		if !there {
			continue
		}
		var trace proctree.Trace
		if e.begun, err = decode(page[startedAt:], &trace); e.begun {
			e.Trace = trace
		} else if err != nil {
			bad = fmt.Errorf("place %d of the table: %w", place, err)
		}
		runs = append(runs, e)
	}
}

func decode(part []byte, into any) (bool, error) {
	n := int(binary.LittleEndian.Uint32(part))
	if n == 0 {
		return false, nil
	}
	if n > len(part)-lengthBytes {
		return false, errTooLong
	}
	err := json.Unmarshal(part[lengthBytes:lengthBytes+n], into)
	return err == nil, err
}

// A Ladder says how a tree is ended.
type Ladder struct {
	Signal int           `json:"signal"` // that asks it to
	Grace  time.Duration `json:"grace"`  // from there to SIGKILL
	Kill   time.Duration `json:"kill"`   // for SIGKILL to take effect
}
