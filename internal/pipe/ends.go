package pipe

import (
	"math/bits"
	"os"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// An ownEnd is an end of this process that a hand closes. The zero ownEnd is none.
type ownEnd struct {
	open bool
	fd   int
	file *os.File // owns fd; or nil
}

// noMore is the bit of hand.begun that keeps it from beginning with another end.
const noMore = 1 << 3

// CloseEnds closes ends of one run; it skips nil ones. It does what Close does of each, by one hand: to wake another
// thread for a hand, and to be woken by it, costs more than what it does. notify is called as that of each end is.
//
// Of two pipes the one that a process holds keeps the other one from being closed by the same hand, so that one is
// closed by another.
func CloseEnds(ends [3]*End, notify func()) {
	h := takeHand()
	h.call, h.notify = callCloseEnds, notify
	h.begun.Store(0)
	for i, e := range ends {
		if e != nil && e.open && e.late == nil {
			h.ends[i] = ownEnd{open: true, fd: e.fd, file: e.file}
		}
	}
	back := h.begin()
	begun := h.begun.Or(noMore)
	var last Closing // the others that were begun are over
	if back {
		h.giveBack()
	} else {
		last = h.leave()
	}
	for i, e := range ends {
		switch {
		case e == nil:
		case begun&(1<<i) == 0:
			e.Close()
		default:
			e.open = false
			e.leaveLarge()
			if i == bits.Len32(uint32(begun))-1 {
				e.calls[1] = last
			}
		}
	}
}

// closeEnds is the hand's part of CloseEnds.
func (h *hand) closeEnds() {
	for i, e := range h.ends {
		switch {
		case !e.open || !h.begins(i):
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
