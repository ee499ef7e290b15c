package kernel

import (
	"io/fs"
	"syscall"
	"time"
)

// at returns the process of a number, after a moment.
func (k *Kernel) at(pid int) *Proc {
	k.call()
	k.asked = pid
	if pid <= 0 || pid >= len(k.byPID) {
		return nil
	}
	return k.byPID[pid]
}

// Self is the PID of this process.
func (k *Kernel) Self() int { return host }

// Process returns the process, for prlimit(2) and the like; 0 is this one.
func (k *Kernel) Process(pid int) (*Proc, error) {
	if pid == 0 {
		return k.Host(), nil
	}
	if p := k.at(pid); p != nil {
		return p, nil
	}
	return nil, syscall.ESRCH
}

// Read is Process for a file in /proc.
func (k *Kernel) Read(pid int) (*Proc, error) {
	if p := k.at(pid); p != nil {
		return p, nil
	}
	return nil, fs.ErrNotExist
}

// Parent returns the parent's PID.
func (p *Proc) Parent() int {
	if p.parent == nil {
		return 0
	}
	return p.parent.PID
}

// List lists /proc, not at once.
func (k *Kernel) List(pids []int) []int {
	for pid := 1; pid < len(k.byPID); pid++ {
		if k.byPID[pid] == nil {
			continue
		}
		pids = append(pids, pid)
		if k.IntN(8) == 0 {
			k.call()
		}
	}
	return pids
}

// Children lists a process's.
func (k *Kernel) Children(pid int) (pids []int, err error) {
	p, err := k.Read(pid)
	if err != nil {
		return nil, err
	}
	for c := 1; c < len(k.byPID); c++ {
		if q := k.byPID[c]; q != nil && q.parent == p {
			pids = append(pids, c)
		}
	}
	return pids, nil
}

// Last is the last PID.
func (k *Kernel) Last() int {
	k.call()
	return k.last
}

// Stat is of /proc/stat.
func (k *Kernel) Stat() (forks, system uint64) {
	k.call()
	return k.forks, uint64(k.spent / (10 * time.Millisecond))
}

// Open opens a pidfd.
func (k *Kernel) Open(pid int) (int, error) {
	if !k.Pidfds {
		return -1, syscall.ENOSYS
	}
	p, err := k.Process(pid)
	if err != nil {
		return -1, err
	}
	k.nextFD++
	k.files[k.nextFD] = p
	return k.nextFD, nil
}

// Hold is Open for who has the process.
func (k *Kernel) Hold(p *Proc) int {
	k.nextFD++
	k.files[k.nextFD] = p
	return k.nextFD
}

// Close closes one.
func (k *Kernel) Close(fd int) {
	if _, open := k.files[fd]; !open {
		k.Wrong = append(k.Wrong, "a descriptor is closed twice")
	}
	delete(k.files, fd)
}

// Files is how many are open.
func (k *Kernel) Files() int { return len(k.files) }

// Exited reports whether a pidfd is readable.
func (k *Kernel) Exited(fd int) (bool, error) {
	k.call()
	p := k.files[fd]
	if p == nil {
		return false, syscall.EBADF
	}
	return p.state == 'Z' || p.state == 0, nil
}

// SignalFD is pidfd_send_signal(2).
func (k *Kernel) SignalFD(fd int, sig syscall.Signal) error {
	k.call()
	p := k.files[fd]
	if p == nil {
		return syscall.EBADF
	}
	if p.state == 0 {
		return syscall.ESRCH
	}
	k.send(p, sig)
	return nil
}

// SignalGroupFD is that to the group which the process leads.
func (k *Kernel) SignalGroupFD(fd int, sig syscall.Signal) error {
	k.call()
	p := k.files[fd]
	switch {
	case !k.GroupSignals:
		return syscall.EINVAL
	case p == nil:
		return syscall.EBADF
	case p.state == 0: // of a number that is used again it is known no more whose group it is
		return syscall.ESRCH
	}
	return k.group(p.PID, sig)
}

// gap is how many calls there are between the question whose a number is and the signal: what happens there without
// pidfds cannot be helped.
const gap = 64

// Kill is kill(2).
func (k *Kernel) Kill(pid int, sig syscall.Signal) error {
	if pid < 0 {
		k.call()
		return k.group(-pid, sig)
	}
	p := k.byPID[pid]
	if p == nil || k.Calls-p.usurper < gap {
		return syscall.ESRCH
	}
	k.send(p, sig)
	return nil
}

func (k *Kernel) group(group int, sig syscall.Signal) error {
	err := error(syscall.ESRCH)
	for _, p := range k.all {
		if p.Group == group {
			k.send(p, sig)
			err = nil
		}
	}
	return err
}

// Wait is waitid(2) with WNOHANG and WNOWAIT.
func (k *Kernel) Wait(pid int) (bool, error) {
	p := k.at(pid)
	if k.Faults && k.IntN(50) == 0 && k.Calls-k.failed > 50 { // twice in a row it is believed, without pidfds
		k.failed = k.Calls
		return false, [...]syscall.Errno{syscall.ECHILD, syscall.EINVAL}[k.IntN(2)]
	}
	if p == nil || p.parent != k.Host() {
		return false, syscall.ECHILD
	}
	return p.state == 'Z', nil
}

// ReapChild reaps a child of this process.
func (k *Kernel) ReapChild(p *Proc) error {
	if p == nil || p.parent != k.Host() || p.state != 'Z' {
		return syscall.ECHILD
	}
	// A zombie has no environment. Without slices nothing says that an orphan of another run has copied our limit, and
	// it is reaped all the same.
	if p.Run != 1 && (k.Slices || p.Leader || p.Run == 0) {
		k.Wrong = append(k.Wrong, "reaps a child of somebody else's")
		return nil
	}
	k.Reap(p)
	return nil
}

// ReapFD is ReapChild by a pidfd.
func (k *Kernel) ReapFD(fd int) error {
	k.call()
	return k.ReapChild(k.files[fd])
}

// ReapPID is ReapChild by number.
func (k *Kernel) ReapPID(pid int) error { return k.ReapChild(k.at(pid)) }
