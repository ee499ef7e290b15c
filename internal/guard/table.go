package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A Run is what has to be known of a run to end it without the program that started it.
type Run struct {
	Program string         // the last element of its path
	Trace   proctree.Trace // of the tree; of one that is not started yet without a leader
	Ladder  Ladder
	Cgroup  string // the directory of the run's own cgroup; empty without one
}

// A Ladder says how a tree is ended.
type Ladder struct {
	Signal int           // that asks it to
	Grace  time.Duration // from there to SIGKILL
	Kill   time.Duration // for SIGKILL to take effect
}

// A place in the table is a page: in its first part a run as it will be started, in its second the trace of the
// run that was started. Each begins with the length of what follows, 0 for none, and then the number of the start, so
// that a trace counts for no other.
const (
	placeSize   = 4096
	startedAt   = 3072
	lengthBytes = 4
)

// errTooLong says that a run has no room in its place: the path of its cgroup is very long.
var errTooLong = errors.New("what the guard has to know of the run is too long")

// A table is the runs of a program, in a file.
type table struct{ file *os.File }

func (t table) set(place int, start uint64, run *Run) error {
	var buf [startedAt]byte
	b := newRecord(buf[:], start)
	b = appendTrace(b, &run.Trace)
	for _, n := range [...]uint64{uint64(run.Ladder.Signal), uint64(run.Ladder.Grace), uint64(run.Ladder.Kill)} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, run.Program)
	b = appendText(b, run.Cgroup)
	return t.write(place, 0, b, len(buf))
}

func (t table) started(place int, start uint64, trace *proctree.Trace) error {
	var buf [placeSize - startedAt]byte
	return t.write(place, startedAt, appendTrace(newRecord(buf[:], start), trace), len(buf))
}

// remove takes a run out. What was started stays, and counts for nothing.
func (t table) remove(place int) {
	var none [lengthBytes]byte
	_, _ = t.file.WriteAt(none[:], int64(place)*placeSize)
}

func newRecord(buf []byte, start uint64) []byte {
	return binary.AppendUvarint(buf[:lengthBytes], start)
}

func (t table) write(place, at int, record []byte, room int) error {
	if len(record) > room {
		return errTooLong
	}
	binary.LittleEndian.PutUint32(record, uint32(len(record)-lengthBytes))
	_, err := t.file.WriteAt(record, int64(place)*placeSize+int64(at))
	return err
}

func appendTrace(b []byte, tr *proctree.Trace) []byte {
	for _, n := range [...]uint64{uint64(tr.PID), tr.Start, tr.Limit, uint64(tr.Outer), tr.Slice} {
		b = binary.AppendUvarint(b, n)
	}
	return appendText(b, tr.Environ)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// An entry is a run that the table holds.
type entry struct {
	Run
	begun bool // its leader is known
}

// read returns the runs. What it cannot make sense of it leaves out, and says so.
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
		e, there, err := decode(&page)
		if err != nil {
			bad = fmt.Errorf("place %d of the table: %w", place, err)
		}
		if there {
			runs = append(runs, e)
		}
	}
}

// decode reads a place. Without its second part, or if that makes no sense, the run is one that is to be started.
func decode(page *[placeSize]byte) (e entry, there bool, err error) {
	first := recordIn(page[:startedAt])
	if first.none {
		return e, false, nil
	}
	start := first.number()
	e.Trace = first.trace()
	e.Ladder = Ladder{int(first.number()), time.Duration(first.number()), time.Duration(first.number())}
	e.Program, e.Cgroup = first.text(), first.text()
	if first.bad {
		return e, false, errDamaged
	}
	second := recordIn(page[startedAt:])
	if second.none || second.number() != start {
		return e, true, nil
	}
	trace := second.trace()
	if second.bad {
		return e, true, errDamaged
	}
	e.Trace, e.begun = trace, true
	return e, true, nil
}

var errDamaged = errors.New("it is damaged")

// A record is what is left to read of a part.
type record struct {
	rest []byte
	none bool // there is no record
	bad  bool // it ended too early
}

func recordIn(part []byte) record {
	n := int(binary.LittleEndian.Uint32(part))
	part = part[lengthBytes:]
	if n > len(part) {
		return record{bad: true}
	}
	return record{rest: part[:n], none: n == 0}
}

func (r *record) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *record) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return ""
	}
	text := string(r.rest[:n])
	r.rest = r.rest[n:]
	return text
}

func (r *record) trace() proctree.Trace {
	return proctree.Trace{
		PID: int(r.number()), Start: r.number(), Limit: r.number(), Outer: uint32(r.number()), Slice: r.number(),
		Environ: r.text(),
	}
}
