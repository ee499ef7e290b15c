package pipe

import (
	"os"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// An ownEnd is an end of this process that a hand closes. The zero ownEnd is none.
type ownEnd struct {
	open  bool
	atEnd bool // it need not ask whether the pipe has ended
	fd    int
	file  *os.File // owns fd; or nil
}

// noMore is the bit of hand.begun that keeps it from beginning with another end.
const noMore = 1 << 3

// Finish closes files, which are the child's ends of pipes, and then those of our ends whose pipe has ended. It skips
// nil ones, and an end with a call that is late. An end that was closed is not Open, and a Read of it returns the end.
//
// One hand does it all: to wake another thread for a hand, and to be woken by it, costs more than all that it does.
// Where a process holds a pipe, the ends that the hand has not come to stay open. The rest happens behind the caller's
// back, and notify is called after it.
func Finish(files [3]*os.File, ends [3]*End, notify func()) Closing {
	h := takeHand()
	h.call, h.files, h.notify = callFinish, files, notify
	h.begun.Store(0)
	for i, e := range ends {
		if e != nil && e.open && e.late == nil && !e.master {
			h.ends[i] = ownEnd{open: true, atEnd: e.atEnd, fd: e.fd, file: e.file}
		}
	}
	back := h.begin()
	begun := h.begun.Or(noMore)
	var closing Closing
	if back {
		h.giveBack()
	} else {
		closing = h.leave()
	}
	for i, e := range ends {
		if begun&(1<<i) != 0 {
			e.open, e.atEnd, e.calls[1] = false, true, closing
			e.leaveLarge()
		}
	}
	return closing
}

// finish is the hand's part of Finish.
func (h *hand) finish() {
	for _, f := range h.files {
		if f != nil {
			f.Close()
		}
	}
	for i, e := range h.ends {
		switch {
		case !e.open || !e.atEnd && !ended(e.fd) || !h.begins(i):
		case e.file != nil:
			e.file.Close()
		default:
			sys.Close(e.fd)
		}
	}
}

// begins reports whether the hand may close an end, which its owner takes to be closed from then on.
func (h *hand) begins(i int) bool {
	for {
		begun := h.begun.Load()
		if begun&noMore != 0 {
			return false
		}
		if h.begun.CompareAndSwap(begun, begun|1<<i) {
			return true
		}
	}
}
