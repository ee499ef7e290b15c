package pipe

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// The kernel holds a pipe's mutex while it copies from or to the memory of a process at its other end. If
// that memory is a page that never comes, of a file on a dead file system or of userfaultfd(2), the process
// keeps the mutex, and each read, write, ioctl, F_SETPIPE_SZ and last close of the pipe sleeps
// uninterruptibly until the process dies, O_NONBLOCK or not. epoll_wait(2), poll(2) and fstat(2) take no
// mutex. So a hand makes all other calls on a pipe: its owner waits for the hand for a moment, and then goes on
// without it. That no process has the other end is no reason to do without a hand: a command can open its own end in
// /proc/self/fd for the other direction, and hold the pipe by what it has then.

// patience is how long a call is waited for before it counts as held. One that copies a full pipe takes some ten
// microseconds; the rest is for a busy machine, where nothing is lost but the way around the poller. Tests change it.
var patience = 10 * time.Millisecond

// A call is what a hand can do.
type call int8

const (
	callRead call = iota
	callWrite
	callUnread
	callGrow
	callShrink
	callResize
	callClose
)

// The states of a hand.
const (
	working int32 = iota // the owner waits for it
	told                 // it is about to tell the owner
	late                 // the owner waits no more
	back                 // it was late, and has a result
	left                 // the result is not wanted any more
)

// A hand makes one call on a goroutine of its own, which can be left behind.
type hand struct {
	state  atomic.Int32
	call   call
	fd     int
	p      []byte
	files  [3]*os.File // of callClose; none: fd is closed
	n      int
	err    error
	notify func() // called when it is back, late or left

	over   *atomic.Bool // by leave
	closes bool         // by leaveToClose

	run      func() // work, bound once
	returned chan struct{}
	timer    *time.Timer
	spare    bool // it belongs to spares
}

func newHand() *hand {
	h := &hand{returned: make(chan struct{}, 1), timer: time.NewTimer(patience)}
	h.timer.Stop()
	h.run = h.work
	return h
}

// spares are hands that are idle. They are made before anything runs: what is made within a bubble of
// testing/synctest cannot be used outside of it. Calls are short, so that few are made at a time.
var spares struct {
	sync.Mutex
	list []*hand
}

func init() {
	for range 32 {
		h := newHand()
		h.spare = true
		spares.list = append(spares.list, h)
	}
}

func takeHand() *hand {
	spares.Lock()
	defer spares.Unlock()
	if n := len(spares.list) - 1; n >= 0 {
		h := spares.list[n]
		spares.list = spares.list[:n]
		return h
	}
	return newHand()
}

// giveBack lets go of what the hand worked on.
func (h *hand) giveBack() {
	h.p, h.files, h.err, h.notify, h.over, h.closes = nil, [3]*os.File{}, nil, nil, nil, false
	if h.spare {
		spares.Lock()
		defer spares.Unlock()
		spares.list = append(spares.list, h)
	}
}

// begin has the hand make the call, and reports whether it is back within the patience.
func (h *hand) begin() bool {
	h.state.Store(working)
	go h.run()
	h.timer.Reset(patience)
	select {
	case <-h.returned:
		h.timer.Stop()
		return true
	case <-h.timer.C:
	}
	if h.state.CompareAndSwap(working, late) {
		return false
	}
	<-h.returned // it was about to
	return true
}

// work is the hand's goroutine. Once the owner can know that it is back it touches nothing of the hand.
func (h *hand) work() {
	h.make()
	if h.state.CompareAndSwap(working, told) {
		h.returned <- struct{}{}
		return
	}
	notify := h.notify
	if !h.state.CompareAndSwap(late, back) {
		if h.closes {
			h.close()
		}
		over := h.over
		h.giveBack()
		over.Store(true)
	}
	if notify != nil {
		notify()
	}
}

// leave gives up a hand that is late, and returns what tells when it is back.
func (h *hand) leave() Closing {
	call, _ := h.abandon()
	return call
}

// leaveToClose gives up a hand that is late, and has it close after its call what that is made on: a file, or if that
// is nil the descriptor. Until then the number must not be another's, since a hand can be late that has not yet begun
// its call. It reports false, and closes nothing, if the hand is back.
func (h *hand) leaveToClose(file *os.File) (Closing, bool) {
	h.closes, h.files[0] = true, file
	return h.abandon()
}

// abandon reports false if the hand is back.
func (h *hand) abandon() (Closing, bool) {
	over := new(atomic.Bool)
	h.over = over
	if h.state.CompareAndSwap(late, left) {
		return Closing{over}, true
	}
	h.giveBack()
	return Closing{}, false
}

func (h *hand) make() {
	switch h.call {
	case callRead:
		h.n, h.err = sys.Read(h.fd, h.p)
	case callWrite:
		h.n, h.err = sys.Write(h.fd, h.p)
	case callUnread:
		h.n, h.err = sys.Unread(h.fd)
	case callGrow:
		h.n, h.err = sys.GrowPipe(h.fd, LargeSize)
	case callShrink:
		h.err = sys.SetPipeSize(h.fd, h.n)
	case callResize:
		h.err = sys.ResizePTY(h.fd, uint16(h.n>>16), uint16(h.n))
	case callClose:
		h.close()
	}
}

// close closes the files, or the descriptor if there are none.
func (h *hand) close() {
	if h.files == [3]*os.File{} {
		sys.Close(h.fd)
	}
	for _, f := range h.files {
		if f != nil {
			f.Close()
		}
	}
}

// A Closing is a call that may not have come back. The zero Closing has.
type Closing struct{ over *atomic.Bool }

// Both is over when both are.
func Both(a, b Closing) Closing {
	if a.Done() {
		return b
	}
	return a // what holds up a call on one end of a terminal does that to the other
}

// Done reports whether it has come back.
func (c Closing) Done() bool { return c.over == nil || c.over.Load() }

// CloseFiles closes files that are ends of pipes; nil ones are skipped. Where a process holds one of the pipes
// the rest happens behind the caller's back, and notify is called after it.
func CloseFiles(files [3]*os.File, notify func()) Closing {
	if files == [3]*os.File{} {
		return Closing{}
	}
	h := takeHand()
	h.call, h.files, h.notify = callClose, files, notify
	if !h.begin() {
		return h.leave()
	}
	h.giveBack()
	return Closing{}
}
