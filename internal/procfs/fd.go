package procfs

import (
	"bytes"
	"strings"
)

// FDKind is what a descriptor refers to, as far as the text of its link tells.
type FDKind uint8

// The kinds of targets of /proc/PID/fd, see proc_pid_fd(5).
const (
	FDUnknown FDKind = iota // none of the forms below
	FDPath                  // a name in a file system: file, directory, device, FIFO, bound socket
	FDPipe                  // pipe:[INODE]
	FDSocket                // socket:[INODE]
	FDAnon                  // anon_inode:NAME or anon_inode:[NAME]: eventpoll, pidfd, eventfd …
	FDMemfd                 // /memfd:NAME (deleted), see memfd_create(2)
	FDOther                 // NAME:[INODE]: namespaces (net, mnt, pid …)
)

var fdKinds = [...]string{"unknown", "path", "pipe", "socket", "anon_inode", "memfd", "other"}

func (k FDKind) String() string {
	if int(k) < len(fdKinds) {
		return fdKinds[k]
	}
	return fdKinds[FDUnknown]
}

// FDTarget is a parsed link of /proc/PID/fd.
type FDTarget struct {
	Kind  FDKind
	Inode uint64 // of FDPipe, FDSocket and FDOther
	Name  string // path; name without brackets of FDAnon, FDMemfd and FDOther; else empty

	// Deleted means that the text ends in " (deleted)", which is cut from Name. A file whose name
	// ends so looks the same: only fstat could tell.
	Deleted bool
}

// ParseFDTarget parses the text of a link in /proc/PID/fd. A file name begins with a slash and is
// otherwise free, so no file can pass for a pipe or a socket; a deleted file called /memfd:x does
// pass for a memfd. What fits no form is FDUnknown, with the text as its name.
func ParseFDTarget(link string) FDTarget {
	const deleted = " (deleted)"
	if strings.HasPrefix(link, "/") {
		name, gone := strings.CutSuffix(link, deleted)
		if memfd, ok := strings.CutPrefix(name, "/memfd:"); ok && gone {
			return FDTarget{Kind: FDMemfd, Name: memfd, Deleted: true}
		}
		return FDTarget{Kind: FDPath, Name: name, Deleted: gone}
	}
	if anon, ok := strings.CutPrefix(link, "anon_inode:"); ok {
		if inner, ok := strings.CutPrefix(anon, "["); ok && strings.HasSuffix(inner, "]") {
			anon = inner[:len(inner)-1]
		}
		return FDTarget{Kind: FDAnon, Name: anon}
	}
	name, inode, ok := cutInode([]byte(link))
	switch {
	case !ok:
		return FDTarget{Kind: FDUnknown, Name: link}
	case string(name) == "pipe":
		return FDTarget{Kind: FDPipe, Inode: inode}
	case string(name) == "socket":
		return FDTarget{Kind: FDSocket, Inode: inode}
	}
	return FDTarget{Kind: FDOther, Inode: inode, Name: string(name)}
}

// cutInode splits NAME:[INODE].
func cutInode(link []byte) (name []byte, inode uint64, ok bool) {
	name, number, ok := bytes.Cut(link, []byte(":["))
	if !ok || len(name) == 0 || !bytes.HasSuffix(number, []byte("]")) {
		return nil, 0, false
	}
	inode, ok = parseUint(number[:len(number)-1], 10, 64)
	return name, inode, ok
}

// PipeInode returns the inode of a link "pipe:[INODE]", for scans over many descriptors that look
// for one pipe and should not allocate.
func PipeInode(link []byte) (inode uint64, ok bool) {
	name, inode, ok := cutInode(link)
	return inode, ok && string(name) == "pipe"
}

// FDLink is one entry of /proc/PID/fd.
type FDLink struct {
	FD   int
	Link string // for ParseFDTarget
}

// maxFDs bounds what FDs keeps of one process; its owner decides how many it has, up to 2^30.
const maxFDs = 1 << 16

// FDs lists the open descriptors of a process with their targets, in ascending order. See
// [WalkFDs] for what is missing and for the errors; of a process with more than 65536 descriptors
// the first ones come with ErrTooBig.
func FDs(pid int) ([]FDLink, error) {
	var links []FDLink
	var tooBig error
	err := WalkFDs(pid, func(fd int, link []byte) bool {
		if len(links) == maxFDs {
			tooBig = file{place: inProcess, pid: pid, name: "fd"}.fail("getdents", ErrTooBig)
			return false
		}
		links = append(links, FDLink{FD: fd, Link: string(link)})
		return true
	})
	if err == nil {
		err = tooBig
	}
	return links, err
}

// maxLink is one more than the kernel ever writes into a link of /proc: it refuses longer paths
// with ENAMETOOLONG.
const maxLink = 4097

// WalkFDs calls visit with each open descriptor of a process and the text of its link, in ascending
// order, until visit returns false. The link is only valid during the call. The memory needed does
// not depend on the number of descriptors, nothing is allocated for each.
//
// A descriptor that is closed meanwhile is left out. One whose link cannot be read is visited with
// an empty link. While Self is walked, the descriptor of the walk is among those listed. Reading
// needs PTRACE_MODE_READ_FSCREDS, see ptrace(2): our own user's processes that are dumpable; else
// the error matches fs.ErrPermission.
//
// The list is the leader's. One that has exited shows none to root and fs.ErrPermission to others,
// although its threads may live and hold what it held; and a thread may have unshared its
// descriptors, see unshare(2). For both there is [WalkThreadFDs].
func WalkFDs(pid int, visit func(fd int, link []byte) bool) error {
	return walkFDs(file{place: inProcess, pid: pid, name: "fd"}, visit)
}

// WalkThreadFDs is [WalkFDs] for the descriptors of one thread, in /proc/PID/task/TID/fd.
func WalkThreadFDs(pid, tid int, visit func(fd int, link []byte) bool) error {
	return walkFDs(file{place: inThread, pid: pid, tid: tid, name: "fd"}, visit)
}

func walkFDs(f file, visit func(fd int, link []byte) bool) error {
	d, err := openDirectory(f)
	if err != nil {
		return err
	}
	defer d.close()
	buf := getBuffer()
	defer putBuffer(buf)
	return d.numbers(func(fd int) bool {
		n, err := d.readlink(fd, (*buf)[:maxLink])
		if isNotExist(err) {
			return true
		}
		return visit(fd, (*buf)[:n])
	})
}

// WalkFDNumbers calls visit with the number of each open descriptor of a process, in ascending
// order, until visit returns false. It reads no links, which makes it several times cheaper than
// [WalkFDs], and allocates nothing. For errors and what is missing see there.
func WalkFDNumbers(pid int, visit func(fd int) bool) error {
	d, err := openDirectory(file{place: inProcess, pid: pid, name: "fd"})
	if err != nil {
		return err
	}
	defer d.close()
	return d.numbers(visit)
}

// ReadFDLink returns the text of one link of /proc/PID/fd, for [ParseFDTarget].
func ReadFDLink(pid, fd int) (string, error) {
	d, err := openDirectory(file{place: inProcess, pid: pid, name: "fd"})
	if err != nil {
		return "", err
	}
	defer d.close()
	buf := getBuffer()
	defer putBuffer(buf)
	n, err := d.readlink(fd, (*buf)[:maxLink])
	return string((*buf)[:n]), err
}
