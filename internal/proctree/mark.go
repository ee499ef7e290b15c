package proctree

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Mark is what the processes of one run, and no others, inherit from its leader: a limit, a time slice,
// a variable of the environment. The zero Mark marks nothing.
type Mark struct {
	id     uint32 // 31 bits, not 0; the lowest sliceBits of them are no other live run's
	half   uint32 // 31 bits, not 0: the number of the outermost run, if that is this one
	tracks Tracks // in force

	// limit is the soft RLIMIT_RTTIME of the tree's processes. ownSoft is that of this process,
	// which they have until they are marked.
	limit, ownSoft uint64

	// run is the number of the run of this process whose leader is the root of the tree; 0 if it leads none.
	run uint32

	slice   uint64    // in nanoseconds; 0 if there is none
	turn    turn      // from TakeTurn on until Start is over; nil at other times
	started time.Time // by Start
	env     string    // the value of the variable
}

// A run's number is its 31 random bits. 2^62 and the numbers of the outermost and the innermost run
// are the limit: microseconds that only a real-time thread would ever count, for 146 000 years.
const (
	idBits     = 31
	idMask     = 1<<idBits - 1
	sliceBits  = 20
	sliceMask  = 1<<sliceBits - 1
	limitFlag  = 1 << (2 * idBits)
	limitFlags = 3 << (2 * idBits)
)

func limitOf(outer, inner uint32) uint64 {
	return limitFlag | uint64(outer)<<idBits | uint64(inner)
}

// runsOf takes a limit apart. It reports false for one that is no mark: no run has such numbers.
func runsOf(limit uint64) (outer, inner uint32, ok bool) {
	outer, inner = uint32(limit>>idBits&idMask), uint32(limit&idMask)
	return outer, inner, limit&limitFlags == limitFlag && outer != 0 && inner&sliceMask != 0
}

// liveRuns are the runs of this process, by the part of their numbers that is in the slice, and the trees
// below a root, whose numbers are no run's.
var liveRuns = struct {
	sync.RWMutex
	ids     map[uint32]liveRun
	leaders map[int]uint32 // the runs whose leaders have the limit mark, by their PIDs
	slice   uint64         // of the threads of this process, to which runs add their numbers
}{ids: make(map[uint32]liveRun), leaders: make(map[int]uint32)}

type liveRun struct {
	id     uint32
	half   uint32
	below  bool   // of a tree below a root
	leader int    // 0 until it has the limit mark
	slice  uint64 // 0 until it is in force
}

// Begin takes a number for a run.
func (m *Mark) Begin() { m.begin(liveRun{}) }

// BeginBelow takes a number for the tree below a root. A process that bears it still belongs to the run that
// marked it at birth, which ends it some day. The number is no run's, so that the next mark on the process
// leaves the run its number.
func (m *Mark) BeginBelow() { m.begin(liveRun{below: true}) }

func (m *Mark) begin(run liveRun) {
	liveRuns.Lock()
	defer liveRuns.Unlock()
	for m.id == 0 {
		id := rand.Uint32() & idMask
		if _, taken := liveRuns.ids[id&sliceMask]; id&sliceMask != 0 && !taken {
			m.id = id
		}
	}
	m.half = rand.Uint32()&idMask&^sliceMask | m.id&sliceMask // so that the run is found by it as well
	run.id, run.half = m.id, m.half
	liveRuns.ids[m.id&sliceMask] = run
}

// End gives the number back. No process may be looked for by it any more.
func (m *Mark) End() {
	m.EndTurn()
	if m.id == 0 {
		return
	}
	liveRuns.Lock()
	defer liveRuns.Unlock()
	leader := liveRuns.ids[m.id&sliceMask].leader
	delete(liveRuns.ids, m.id&sliceMask)
	if liveRuns.leaders[leader] == m.id { // or the number leads another run by now
		delete(liveRuns.leaders, leader)
	}
	m.id, m.half = 0, 0
}

// isLive reports whether id is that of a run of this process.
func isLive(id uint32) bool {
	liveRuns.RLock()
	defer liveRuns.RUnlock()
	run, taken := liveRuns.ids[id&sliceMask]
	return taken && run.id == id && !run.below
}

// runNamed returns the run that a limit mark names, and whether it is one of this process: the innermost, or the
// one around that.
func runNamed(outer, inner uint32) (id uint32, live bool) {
	liveRuns.RLock()
	defer liveRuns.RUnlock()
	if run := liveRuns.ids[inner&sliceMask]; run.id == inner && !run.below {
		return inner, true
	}
	if run := liveRuns.ids[outer&sliceMask]; (run.id == outer || run.half == outer) && !run.below {
		return run.id, true
	}
	return inner, false
}

// liveCount returns how many there are.
func liveCount() int {
	liveRuns.RLock()
	defer liveRuns.RUnlock()
	return len(liveRuns.ids)
}

// runLedBy returns the number of the run of this process whose leader is pid, 0 if there is none.
func runLedBy(pid int) uint32 {
	liveRuns.RLock()
	defer liveRuns.RUnlock()
	return liveRuns.leaders[pid]
}

// noSlices is set once the kernel was seen to ignore or refuse slices.
var noSlices atomic.Bool

// TakeTurn waits until the run may be started, and comes before what it opens for that: thousands that wait
// would otherwise have their pipes open. There is no turn if quit was closed or the given time has come before.
// Start gives it back, and so does End.
func (m *Mark) TakeTurn(quit <-chan struct{}, until time.Time) {
	if m.turn == nil {
		m.turn = takeTurn(quit, until)
	}
}

// HasTurn reports whether the run may be started.
func (m *Mark) HasTurn() bool { return m.turn != nil }

// EndTurn gives the turn back, if it has one.
func (m *Mark) EndTurn() {
	if m.turn != nil {
		m.turn.end()
		m.turn = nil
	}
}

// Start calls start on a thread whose slice is the mark, so that what it starts carries that from
// birth on. The slice belongs to the thread and not to the process: no other start of this process
// gets it, and it is put back afterwards. The Go runtime makes no threads from a locked one.
func (m *Mark) Start(start func() error) error {
	m.TakeTurn(nil, time.Time{})
	defer m.EndTurn()
	if m.id == 0 || noSlices.Load() {
		m.started = time.Now()
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m.started = time.Now()
	before, err := sys.ScheduleOf(0)
	if err != nil || before.Slice() == 0 {
		// A thread of another policy or a kernel that has no slices, and the next may be another.
		return start()
	}
	slice := before.Slice() + uint64(m.id&sliceMask)
	if before.SetSlice(slice) != nil {
		noSlices.Store(true)
		return start()
	}
	now, err := sys.ScheduleOf(0)
	if err == nil && now.Slice() == slice {
		m.bornWith(slice)
	}
	err = start()
	if before.SetSlice(before.Slice()) != nil {
		noSlices.Store(true) // it was possible a moment ago, and was forbidden meanwhile
	}
	return err
}

// bornWith records the slice that the leader is born with.
func (m *Mark) bornWith(slice uint64) {
	m.slice = slice
	m.tracks |= TrackSlice
	liveRuns.Lock()
	defer liveRuns.Unlock()
	run := liveRuns.ids[m.id&sliceMask]
	run.slice = slice
	liveRuns.ids[m.id&sliceMask] = run
	liveRuns.slice = slice - uint64(m.id&sliceMask)
}

// Limit gives an unreaped child of ours, which its number means for sure, the limit mark. It reports
// whether it has it now: it cannot where the child is another user's, its hard limit is too low, or
// the kernel's numbers are too short.
func (m *Mark) Limit(pid int) bool {
	soft, hard, err := sys.RTTimeLimit(0) // which the child was born with
	if err != nil || !m.limitFrom(pid, soft, hard) {
		return false
	}
	liveRuns.Lock()
	defer liveRuns.Unlock()
	run := liveRuns.ids[m.id&sliceMask]
	run.leader = pid
	liveRuns.ids[m.id&sliceMask] = run
	liveRuns.leaders[pid] = m.id
	return true
}

// LimitRoot does the same to a process that is no child of ours and is seen to exist afterwards.
func (m *Mark) LimitRoot(root *Root) bool {
	soft, hard, err := sys.RTTimeLimit(root.PID)
	if err != nil || !root.exists() || !m.limitFrom(root.PID, soft, hard) {
		return false
	}
	if !root.exists() { // the mark may be a stranger's now
		_, _ = sys.SetRTTimeLimit(root.PID, soft, hard)
		m.tracks &^= TrackLimit
		return false
	}
	return true
}

// limitFrom replaces the given limits.
func (m *Mark) limitFrom(pid int, soft, hard uint64) bool {
	if m.id == 0 {
		return false
	}
	m.ownSoft = soft
	limit := limitOf(m.outerBeside(soft), m.id)
	if hard < limit { // or the child's was changed by its first instructions, and the call says so
		return false
	}
	if _, err := sys.SetRTTimeLimit(pid, limit, hard); err != nil {
		return false
	}
	if strconv.IntSize < 64 { // on a kernel of 32 bits as well, whose limits are shorter
		if now, _, err := sys.RTTimeLimit(pid); err != nil || now != limit {
			return false
		}
	}
	m.limit = limit
	m.tracks |= TrackLimit
	return true
}

// outerBeside returns the number that stands beside ours in the mark of a process that had the given limit.
func (m *Mark) outerBeside(soft uint64) uint32 {
	outer, inner, nested := runsOf(soft)
	switch {
	case !nested:
		return m.half
	case isLive(inner):
		return inner // a run of this process, which must go on finding processes that are marked anew
	}
	return outer
}

// bears reports whether the numbers of a mark make its bearer one of ours.
func (m *Mark) bears(outer, inner uint32) bool {
	return inner == m.id || outer == m.id || outer == m.half || m.run != 0 && (inner == m.run || outer == m.run)
}

// outer returns the number of the outermost run.
func (m *Mark) outer() uint32 {
	outer, _, _ := runsOf(m.limit)
	return outer
}

// Started returns when Start came to start. That is later than it was called where many are at once, and what
// was born since is all that a young tree has to be looked for in.
func (m *Mark) Started() time.Time { return m.started }

// Tracks returns which of the marks are in force.
func (m *Mark) Tracks() Tracks { return m.tracks }
