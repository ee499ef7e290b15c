package fdtable

import (
	"errors"
	"os"
	"slices"
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

// Seal marks every descriptor close-on-exec but the standard streams and those that the environment
// of this process declares, by one system call whatever is open. The mark is for the whole process,
// and so the environment of one child does not decide about it; see [Declared]. It says what it marked,
// as far as it looked first: see [budget].
//
// What another thread opens without close-on-exec between this call and the clone is inherited.
// Nothing in this process can prevent that; the caller narrows it by calling right before the
// start.
//
// What was marked is described afterwards and outside the lock: a driver that does not answer then
// holds up this start, and no other. A number that has become another file's meanwhile is described
// as that.
func Seal() Found {
	declared := atBirth.declaredBy(nil)
	begin := time.Now()
	fds, looked, err := seal(declared, begin)
	found := name(fds, declared)
	found.Marked, found.Leaked, found.Err = found.Leaked, nil, err
	if looked && len(fds) > 0 {
		sealing.Lock()
		sealing.survey.spent(begin, time.Since(begin))
		sealing.Unlock()
	}
	return found
}

// seal marks, and returns what was unmarked as far as it looked. While it holds the lock it asks the
// kernel for nothing that a file system or a driver has to answer.
func seal(declared []declared, now time.Time) (fds []int, looked bool, err error) {
	sealing.Lock()
	defer sealing.Unlock()
	if looked = sealing.survey.due(now); looked {
		fds, _ = unmarked() // without /proc there is no harm yet: what is not named is marked all the same
		sealing.survey.spent(now, time.Since(now))
	}
	if markRanges(declared) != nil {
		// What is still unmarked is listed here in full.
		fds = slices.DeleteFunc(fds, func(fd int) bool { return declares(declared, fd) == "" })
		var marked []int
		marked, err = markListed(declared)
		fds = append(fds, marked...)
	}
	return fds, looked, err
}

// Survey says what a child with that environment would inherit, and changes nothing.
func Survey(env []string) Found { return survey(atBirth.declaredBy(env)) }

func survey(declared []declared) Found {
	fds, err := unmarked()
	found := name(fds, declared)
	found.Err = err
	return found
}

// unmarked lists what a child would inherit beside the standard streams.
func unmarked() (fds []int, err error) {
	err = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if fd < FirstFD {
			return true
		}
		if marked, err := sys.CloseOnExec(fd); err == nil && !marked { // else closed since, or ours to keep
			fds = append(fds, fd)
		}
		return true
	})
	return fds, err
}

// name describes the descriptors that are still open.
func name(fds []int, declared []declared) (found Found) {
	for _, fd := range fds {
		d, err := describe(fd)
		if err != nil {
			continue
		}
		if d.Declared = declares(declared, fd); d.Declared != "" {
			found.Declared = append(found.Declared, d)
		} else {
			found.Leaked = append(found.Leaked, d)
		}
	}
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
func markListed(declared []declared) (fds []int, err error) {
	var failed error
	err = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if fd < FirstFD || declares(declared, fd) != "" {
			return true
		}
		marked, err := sys.CloseOnExec(fd)
		if err != nil || marked {
			return true
		}
		err = sys.SetCloseOnExec(fd)
		if errors.Is(err, syscall.EBADF) {
			return true // it was closed since
		}
		if err != nil {
			failed = os.NewSyscallError("fcntl", err)
			return false
		}
		fds = append(fds, fd)
		return true
	})
	if failed != nil {
		err = failed
	}
	return fds, err
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
