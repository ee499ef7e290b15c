package fdtable

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// sealing serializes the marking, so that of two starts at once one names what it marked and the
// other has nothing left to name. The table is the process's, and so is this.
var sealing struct {
	sync.Mutex
	survey budget
}

// Seal marks every descriptor but the standard streams and the declared ones close-on-exec, by one
// system call whatever is open. It says what it marked, as far as it looked first: see [budget].
//
// What another thread opens without close-on-exec between this call and the clone is inherited.
// Nothing in this process can prevent that; the caller narrows it by calling right before the
// start.
func Seal() Found {
	sealing.Lock()
	defer sealing.Unlock()
	var found Found
	declared := atBirth.declaredNow()
	now := time.Now()
	if sealing.survey.due(now) {
		found = survey(declared)
		sealing.survey.spent(now, time.Since(now))
		// That there is no /proc is no harm yet: what is not named is marked all the same.
		found.Marked, found.Leaked, found.Err = found.Leaked, nil, nil
		for i := range found.Marked {
			found.Marked[i].CloseOnExec = true
		}
	}
	if markRanges(declared) != nil {
		markListed(declared, &found)
	}
	return found
}

// Survey says what a child would inherit, and changes nothing.
func Survey() Found { return survey(atBirth.declaredNow()) }

func survey(declared []declared) Found {
	var found Found
	found.Err = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if fd < FirstFD {
			return true
		}
		if marked, err := sys.CloseOnExec(fd); err != nil || marked {
			return true // it was closed since, or is ours to keep
		}
		d, err := describe(fd)
		if err != nil {
			return true
		}
		if d.Declared = declares(declared, fd); d.Declared != "" {
			found.Declared = append(found.Declared, d)
		} else {
			found.Leaked = append(found.Leaked, d)
		}
		return true
	})
	return found
}

// markRanges marks the ranges between the declared descriptors.
func markRanges(declared []declared) error {
	first := FirstFD
	for _, d := range declared {
		if d.fd > first {
			if err := sys.MarkRange(first, d.fd-1); err != nil {
				return err
			}
		}
		first = d.fd + 1
	}
	return sys.MarkRange(first, -1)
}

// markListed stands in for markRanges where the kernel is too old or a filter refuses it. It marks
// what /proc/self/fd lists: a loop over all numbers takes a second where the limit is a million,
// and misses those above a limit that was lowered.
func markListed(declared []declared, found *Found) {
	found.Marked = nil // what is still unmarked is listed here in full
	var failed error
	err := procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if fd < FirstFD || declares(declared, fd) != "" {
			return true
		}
		marked, err := sys.CloseOnExec(fd)
		if err != nil || marked {
			return true
		}
		d, err := describe(fd)
		if err == nil {
			err = sys.SetCloseOnExec(fd)
		}
		if errors.Is(err, syscall.EBADF) {
			return true // it was closed since
		}
		if err != nil {
			failed = os.NewSyscallError("fcntl", err)
			return false
		}
		d.CloseOnExec = true
		found.Marked = append(found.Marked, d)
		return true
	})
	if found.Err = failed; failed == nil {
		found.Err = err
	}
}

// A budget says when the next look at all descriptors is due. Marking costs the same for ten and
// for a hundred thousand; looking first, to be able to name what is marked, costs a system call for
// each. Looks therefore take at most a thousandth of the time. With ten descriptors that is one
// look in some hundredths of a second, with a hundred thousand one in a minute.
type budget struct {
	next time.Time
}

// lookShare is which part of the time may be spent on looks.
const lookShare = 1000

func (b *budget) due(now time.Time) bool { return !now.Before(b.next) }

func (b *budget) spent(at time.Time, took time.Duration) { b.next = at.Add(lookShare * took) }
