package proctree

import (
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
	if value, ok := c.tree.readRuns(c.pid); ok {
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
// userfaultfd(2). So it is done by a goroutine, which is left behind if it takes too long, and not at
// all while too many are left behind. They end with the processes.
const (
	environBound = 20 * time.Millisecond
	maxStuck     = 16
	// environBudget is for all of them in one look.
	environBudget = 100 * time.Millisecond
	// recalledBound is environBound for a tree that nothing else may find, even on a busy machine. Its budget
	// is the look's own time, and a process that did not answer once is not asked again.
	recalledBound = 250 * time.Millisecond
)

var stuckReaders atomic.Int32

// tooManyReaders reports whether nothing more is to be read. Trees that are recalled are ended many at once, and each
// may have no other mark: they count their own.
func (t *tracker) tooManyReaders() bool {
	if t.recalled {
		return t.readers != nil && t.readers.Load() >= maxStuck
	}
	return stuckReaders.Load() >= maxStuck
}

func (t *tracker) readRuns(pid int) (string, bool) {
	if t.tooManyReaders() || t.reading <= 0 || t.silent[pid] {
		return "", false
	}
	bound := environBound
	if t.recalled {
		bound = recalledBound
	}
	if t.readers == nil {
		t.readers = new(atomic.Int32)
	}
	began := time.Now()
	value, late := readRuns(pid, bound, t.readers)
	t.reading -= time.Since(began)
	if late && t.recalled {
		if t.silent == nil {
			t.silent = make(map[int]bool)
		}
		t.silent[pid] = true
	}
	return value, value != ""
}

// readRuns returns the value of the environment mark of a process, "" if it has none. It reports whether the process
// does not answer within the bound, and leaves one of the readers behind then.
func readRuns(pid int, bound time.Duration, readers *atomic.Int32) (value string, late bool) {
	// Opened here: to the thread that reads, /proc may be another one.
	thread, err := procfs.OpenThread(pid)
	if err != nil {
		return "", false
	}
	answer := make(chan string, 1)
	stuckReaders.Add(1)
	readers.Add(1)
	go func() {
		defer stuckReaders.Add(-1)
		defer readers.Add(-1)
		defer thread.Close()
		value, _, _ := thread.Environ(Variable)
		answer <- value
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case value := <-answer:
		return value, false
	case <-timer.C:
		return "", true
	}
}
