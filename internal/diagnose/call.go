package diagnose

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/syscalls"
)

// readCall fills in what a thread is blocked in. It reports false where that may not be read.
func (c *collector) readCall(p *Process, t *Thread) bool {
	t.Call.Left = -1
	if t.State == 'T' || t.State == 't' {
		return true // what it was doing before it was stopped is not what it waits for
	}
	pid, tid := p.PID, t.TID
	sc, ok := ask(c, pid, func() (procfs.Syscall, error) { return procfs.ReadSyscall(pid, tid) })
	if !ok {
		t.Call.Wchan, _ = procfs.ReadWchan(p.PID, t.TID)
		return false
	}
	t.Call.Running = sc.Running
	if sc.Number < 0 {
		if !sc.Running {
			t.Call.Wchan, _ = procfs.ReadWchan(p.PID, t.TID)
		}
		return true
	}
	d := decoder{c: c, p: p, t: t, call: &t.Call, args: sc.Args, table: syscalls.Native()}
	if compat(sc) {
		d.table, d.narrow = syscalls.Compat(), true
	}
	d.call.Name = d.table.Describe(sc.Number)
	d.decode()
	return true
}

// compat reports whether the call was made by a 32-bit program on a 64-bit kernel: its code and its
// stack lie below 4 GiB, where no 64-bit program has both.
func compat(sc procfs.Syscall) bool {
	return strconv.IntSize == 64 && sc.SP != 0 && sc.SP < 1<<32 && sc.PC < 1<<32
}

// A decoder makes a Call of a system call's number and arguments.
type decoder struct {
	c      *collector
	p      *Process
	t      *Thread
	call   *Call
	args   [6]uint64
	table  *syscalls.Table
	narrow bool // pointers have 32 bits, and structures another layout than ours
}

// fdCalls are the calls that are blocked on the descriptor that is their first argument.
var fdCalls = map[string]Wait{
	"read": WaitRead, "readv": WaitRead, "pread64": WaitRead, "preadv": WaitRead, "preadv2": WaitRead,
	"recv": WaitRead, "recvfrom": WaitRead, "recvmsg": WaitRead, "recvmmsg": WaitRead, "recvmmsg_time64": WaitRead,
	"write": WaitWrite, "writev": WaitWrite, "pwrite64": WaitWrite, "pwritev": WaitWrite, "pwritev2": WaitWrite,
	"send": WaitWrite, "sendto": WaitWrite, "sendmsg": WaitWrite, "sendmmsg": WaitWrite, "vmsplice": WaitWrite,
	"accept": WaitAccept, "accept4": WaitAccept, "connect": WaitConnect,
	"flock": WaitLock,
	"fsync": WaitFile, "fdatasync": WaitFile, "syncfs": WaitFile, "ioctl": WaitFile, "close": WaitFile,
	"getdents": WaitFile, "getdents64": WaitFile, "ftruncate": WaitFile, "fallocate": WaitFile,
	"fstat": WaitFile, "fchdir": WaitFile, "fstatfs": WaitFile,
}

// transfers are the calls between two descriptors: which argument is read from, which is written to.
var transfers = map[string][2]int{
	"sendfile": {1, 0}, "sendfile64": {1, 0}, "splice": {0, 2}, "tee": {0, 1}, "copy_file_range": {0, 2},
}

// paths are the calls that name a file: which argument is the name.
var paths = map[string]int{
	"open": 0, "openat": 1, "openat2": 1, "creat": 0, "execve": 0, "execveat": 1, "stat": 0, "lstat": 0,
	"newfstatat": 1, "statx": 1, "access": 0, "faccessat": 1, "faccessat2": 1, "chdir": 0, "mkdir": 0,
	"mkdirat": 1, "unlink": 0, "unlinkat": 1, "rename": 0, "renameat": 1, "renameat2": 1, "rmdir": 0,
	"readlink": 0, "readlinkat": 1, "statfs": 0, "truncate": 0, "chmod": 0, "fchmodat": 1,
}

// queues are the calls that wait for a message or a semaphore.
var queues = map[string]bool{
	"semop": true, "semtimedop": true, "msgrcv": true, "msgsnd": true, "mq_timedreceive": true,
	"mq_timedsend": true, "ipc": true,
}

func (d *decoder) decode() {
	name := d.call.Name
	if wait, ok := fdCalls[name]; ok {
		d.call.Wait = wait
		d.resolve(d.fd(0), wait)
		if wait == WaitLock {
			d.lockHolders(procfs.LockFlock)
		}
		return
	}
	if pair, ok := transfers[name]; ok {
		d.call.Wait = WaitReady
		d.resolve(d.fd(pair[0]), WaitRead)
		d.resolve(d.fd(pair[1]), WaitWrite)
		return
	}
	if arg, ok := paths[name]; ok {
		d.open(name, arg)
		return
	}
	switch name {
	case "fcntl", "fcntl64":
		d.fcntl()
	case "wait4", "waitpid", "waitid":
		d.children(name)
	case "vfork", "clone", "clone3", "fork":
		d.call.Wait = WaitExec // these only block where the child was made as by vfork(2)
		d.allChildren()
	case "futex", "futex_time64", "futex_wait":
		d.futex(name)
	case "futex_waitv":
		d.call.Wait = WaitFutex
	case "nanosleep", "clock_nanosleep", "clock_nanosleep_time64":
		d.sleep(name)
	case "poll", "ppoll", "ppoll_time64":
		d.poll(name)
	case "select", "_newselect", "pselect6", "pselect6_time64":
		d.selects(name)
	case "epoll_wait", "epoll_pwait", "epoll_pwait2":
		d.epoll(name)
	case "pause", "rt_sigsuspend", "sigsuspend":
		d.call.Wait = WaitSignal
		d.allChildren() // a shell waits for its children like that
	case "rt_sigtimedwait", "rt_sigtimedwait_time64":
		d.call.Wait = WaitSignal
		d.call.Left = d.timespecAt(d.args[2])
	default:
		if queues[name] {
			d.call.Wait = WaitIPC
		}
	}
}

// fd returns an argument as a descriptor: an int, whatever else is in the register.
func (d *decoder) fd(arg int) int { return int(int32(d.args[arg])) }

// The numbers of fcntl(2) that wait for a lock. The 32-bit one for large files is SETLKW64.
const (
	setlkw    = 7
	setlkw64  = 14
	ofdSetlkw = 38
)

func (d *decoder) fcntl() {
	switch d.args[1] {
	case setlkw, setlkw64:
		d.call.Wait = WaitLock
		d.resolve(d.fd(0), WaitLock)
		d.lockHolders(procfs.LockPOSIX)
	case ofdSetlkw:
		d.call.Wait = WaitLock
		d.resolve(d.fd(0), WaitLock)
		d.lockHolders(procfs.LockOFD)
	default:
		d.call.Wait = WaitFile
		d.resolve(d.fd(0), WaitFile)
	}
}

// The kinds of waitid(2).
const (
	waitAll = iota
	waitPID
	waitGroup
	waitPidfd
)

// children finds out which children a call waits for.
func (d *decoder) children(name string) {
	d.call.Wait = WaitChild
	id := int(int32(d.args[0]))
	kind := waitPID
	switch {
	case name == "waitid":
		kind, id = int(int32(d.args[0])), int(int32(d.args[1]))
	case id == -1:
		kind = waitAll
	case id == 0:
		kind, id = waitGroup, d.p.PGID
	case id < -1:
		kind, id = waitGroup, -id
	}
	switch kind {
	case waitPID:
		d.call.Children = []int{id}
	case waitPidfd:
		if info, ok := d.c.fdInfo(d.p.PID, d.t.TID, id); ok && info.PID > 0 {
			d.call.Children = []int{info.PID}
		}
	default:
		d.allChildren()
		if kind == waitGroup {
			d.onlyGroup(id)
		}
	}
	d.wantChildren()
}

func (d *decoder) allChildren() {
	d.call.Any = true
	if d.p.ThreadCount == 1 {
		d.call.Children, _ = procfs.ReadChildren(d.p.PID, d.p.PID)
		slices.Sort(d.call.Children)
	} else {
		d.call.Children, _ = procfs.Children(d.p.PID)
	}
	d.wantChildren()
}

func (d *decoder) onlyGroup(pgid int) {
	var inGroup []int
	for _, pid := range d.call.Children {
		if st, err := procfs.ReadStatNoComm(pid); err == nil && st.PGRP == pgid {
			inGroup = append(inGroup, pid)
		}
	}
	d.call.Children = inGroup
}

func (d *decoder) wantChildren() {
	kids := d.call.Children
	for i := min(len(kids), firstKids) - 1; i >= 0; i-- { // the first on top
		d.c.want(kids[i])
	}
}

// maxPathSize is PATH_MAX.
const maxPathSize = 4096

// open finds out which file a call is about, and if it opens a FIFO, which processes have the other end.
func (d *decoder) open(name string, arg int) {
	d.call.Wait = WaitFile
	path, ok := d.stringAt(d.args[arg], maxPathSize)
	if !ok {
		return
	}
	d.call.Path = path
	if name != "open" && name != "openat" {
		return
	}
	// A name that does not begin with a slash is looked up elsewhere. Only lstat(2) of a name that
	// is known to hang could hang: the opener is in the kernel's fifo_open.
	wchan, _ := procfs.ReadWchan(d.p.PID, d.t.TID)
	if wchan != "wait_for_partner" && wchan != "fifo_open" {
		return
	}
	d.call.Wait = WaitOpen
	full := path
	if path != "" && path[0] != '/' {
		dir, err := os.Readlink("/proc/" + strconv.Itoa(d.p.PID) + "/cwd")
		if err != nil {
			return
		}
		full = dir + "/" + path
	}
	if resolved, ok := ask(d.c, d.p.PID, func() (string, error) { return filepath.EvalSymlinks(full) }); ok {
		full = resolved
	}
	const accMode, writeOnly = 3, 1
	writing := d.args[arg+1]&accMode == writeOnly
	r := Descriptor{
		FD: -1, Kind: "FIFO", Path: full, Filled: -1, Size: -1, Unread: -1, Unsent: -1, Silent: -1,
		Reading: !writing, link: full, asker: d.p.PID,
	}
	d.c.findEnds(&r)
	d.call.FDs = append(d.call.FDs, r)
}

// sleep finds out how much of a sleep is left. What nanosleep(2) was asked for counts from when the
// thread last ran.
func (d *decoder) sleep(name string) {
	d.call.Wait = WaitTime
	arg := 0
	absolute := false
	clock := int32(0)
	if name != "nanosleep" {
		const timerAbstime = 1
		arg, absolute, clock = 2, d.args[1]&timerAbstime != 0, int32(d.args[0])
	}
	asked := d.timespecAt(d.args[arg])
	if asked < 0 {
		return
	}
	if absolute {
		d.call.Left = untilClock(clock, asked)
		return
	}
	d.c.idle(d.p, d.t)
	d.call.Left = asked
	if d.t.Idle >= 0 {
		d.call.Left = max(asked-d.t.Idle, 0)
	}
	if asked <= longestPoll {
		d.lockPolled()
	}
}

// longestPoll is the longest sleep between two tries that counts as waiting for a lock.
const longestPoll = 2 * time.Second

// idle finds out how long ago a thread ran.
func (c *collector) idle(p *Process, t *Thread) {
	if c.now == 0 || t.Idle >= 0 {
		return
	}
	if ran, err := procfs.ReadSched(p.PID, t.TID); err == nil {
		now, err := procfs.ReadOwnSched()
		if err == nil {
			t.Idle = max(now-ran, 0)
		}
	}
}
