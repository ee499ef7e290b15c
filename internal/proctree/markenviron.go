package proctree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Variable is the variable of the environment mark. Its value names the runs that the process is
// in, from the outermost to the innermost, with slashes between them: so what begins with a run's
// value belongs to it or to a run within it.
const Variable = "SAFEEXEC_RUN"

// maxRuns is how long a value may be that this process was given and passes on. A longer one is
// nonsense, or so many runs within each other that the outer ones can do without it.
const maxRuns = 512

// Environ returns the environment that cmd would get, with the mark. What os/exec does with Env and
// Dir, it does: it takes our own environment for nil, and sets PWD if it did so.
func (m *Mark) Environ(cmd *exec.Cmd) []string {
	if m.id == 0 || !Enumerates || !sys.Enabled(sys.EnvironMark) {
		return cmd.Env
	}
	outer, nested := os.LookupEnv(Variable)
	if !nested || outer == "" || len(outer) > maxRuns {
		outer = ""
	}
	var buf [len(Variable) + maxRuns + 32]byte
	entry := append(buf[:0], Variable+"="...)
	if outer != "" {
		entry = append(entry, outer...)
		entry = append(entry, '/')
	}
	entry = strconv.AppendUint(entry, uint64(m.id)<<32|uint64(time.Now().UnixNano())&(1<<32-1), 36)
	text := string(entry)
	m.env = text[len(Variable)+1:]
	m.tracks |= TrackEnvironment

	given := cmd.Env
	if given == nil {
		given = os.Environ()
	}
	env := append(make([]string, 0, len(given)+2), given...)
	if cmd.Env == nil && cmd.Dir != "" {
		if pwd, err := filepath.Abs(cmd.Dir); err == nil {
			env = append(env, "PWD="+pwd)
		}
	}
	return append(env, text)
}

// environTrack is the track of the environment mark. Its holes: env -i, and programs that write
// their title there. What cannot be read says nothing. It survives what resets limits, and finds a
// run that is neither the outermost nor the innermost.
type environTrack struct{}

func (environTrack) judge(c *candidate) verdict {
	m := c.tree.mark
	if m.env == "" || !c.thorough() || c.older() {
		return unknown
	}
	if value := c.readRuns(); value != "" {
		c.byEnviron = c.runInEnviron(value)
	}
	return unknown
}

// runInEnviron returns the run that a value names, 0 for none that counts: ours, another one of this process, or
// the innermost, if the limit mark names that too. Any other is a leftover, which programs keep in files.
func (c *candidate) runInEnviron(value string) uint32 {
	m := c.tree.mark
	if value == m.env || strings.HasPrefix(value, m.env+"/") {
		return m.id
	}
	outer := m.env[:strings.LastIndexByte(m.env, '/')+1] // that this process was given
	if within, ok := strings.CutPrefix(value, outer); ok {
		first, _, _ := strings.Cut(within, "/")
		if id := numberIn(first); isLive(id) {
			return id
		}
	}
	if numberIn(value[strings.LastIndexByte(value, '/')+1:]) == c.inner {
		return c.byLimit
	}
	return 0
}

// numberIn returns the number of a run whose name in the environment is given; 0 if it is none.
func numberIn(name string) uint32 {
	n, err := strconv.ParseUint(name, 36, 64)
	if err != nil {
		return 0
	}
	return uint32(n >> 32)
}

// Reading an environment waits for the memory of its process, which that one can withhold for ever:
// userfaultfd(2), and one in the middle of exec has none yet. So it is done by a goroutine, which is left behind if
// it takes too long, and not at all while too many are left behind. They end with the processes.
const (
	environBound = 20 * time.Millisecond
	maxStuck     = 16
	// patientBound is environBound for a process that was late, which on a busy machine says nothing; and at once
	// where much depends on it: in a tree that was recalled, and for a process whose limit mark it is weighed against.
	patientBound = 250 * time.Millisecond
	// maxSilent is for how many processes a tree that was not recalled is patient.
	maxSilent = 4
)

// A silence is how a process has not answered for its environment.
type silence int

const (
	late   silence = iota + 1 // it is asked once more, with patience
	silent                    // it is not asked again
)

var stuckReaders atomic.Int32

// environOf is set by tests.
var environOf = procfs.Thread.Environ

// readRuns returns the value of the environment mark of the process, "" if it was not had. While another look may have
// it, this one proves nothing, and a process with our limit mark, which it may have taken from another run of this
// program, is not ours yet.
//
// Trees that are recalled are ended many at once, and each may have no other mark: they count only their own readers.
// So do processes that are asked with patience.
func (c *candidate) readRuns() string {
	t := c.tree
	heard := t.silent[c.pid]
	patient := t.recalled || (heard == late || c.disputed()) && len(t.silent) <= maxSilent
	if t.readers == nil {
		t.readers = new(atomic.Int32)
	}
	bound, count := environBound, []*atomic.Int32{&stuckReaders, t.readers}
	if patient {
		bound, count = patientBound, count[1:]
	}
	if heard == silent || count[0].Load() >= maxStuck {
		return ""
	}
	left := t.left()
	if left < bound/2 { // the next look has more for it
		c.mishear()
		return ""
	}
	value, inTime := readRuns(c.pid, min(bound, left), count...)
	switch {
	case inTime || !patient && len(t.silent) >= maxSilent:
		return value
	case t.silent == nil:
		t.silent = make(map[int]silence)
	}
	t.silent[c.pid] = silent
	if !patient {
		t.silent[c.pid] = late
		c.mishear()
	}
	return value
}

func (c *candidate) mishear() {
	c.tree.unheard = true
	c.unasked = c.byLimit == c.tree.mark.id && !c.tree.recalled
}

// readRuns returns the value of the environment mark of a process, "" if it has none. It reports whether the process
// has answered within the bound; if not, a reader is left behind, which each of the counters counts.
func readRuns(pid int, bound time.Duration, count ...*atomic.Int32) (value string, inTime bool) {
	// Opened here: to the thread that reads, /proc may be another one.
	thread, err := procfs.OpenThread(pid)
	if err != nil {
		return "", true
	}
	answer := make(chan string, 1)
	var over atomic.Bool // one of the two has come to its end: the other one counts
	countAll := func(n int32) {
		for _, c := range count {
			c.Add(n)
		}
	}
	go func() {
		value, _, err := environOf(thread, Variable)
		for errors.Is(err, procfs.ErrInExec) && !over.Load() {
			time.Sleep(time.Millisecond) // nothing tells when it has one
			value, _, err = environOf(thread, Variable)
		}
		thread.Close()
		answer <- value
		if !over.CompareAndSwap(false, true) {
			countAll(-1)
		}
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case value := <-answer:
		return value, true
	case <-timer.C:
	}
	countAll(1)
	if over.CompareAndSwap(false, true) {
		return "", false
	}
	countAll(-1)
	return <-answer, true
}
