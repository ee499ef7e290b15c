package procfs

import (
	"errors"
	"strconv"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

func isNoProcess(err error) bool { return errors.Is(err, syscall.ESRCH) }

// maxPath is enough for /proc/PID/task/TID/NAME with two 64-bit numbers and our longest name.
const maxPath = 96

// openFile opens f without allocating. os.Open would also register the file with the poller, which
// costs 2 more system calls.
func openFile(f file, flags int) (int, error) {
	var path [maxPath]byte
	dir, name := atCWD, path[:0]
	if f.place == inOpened {
		dir, name = f.dir, append(name, f.name...)
	} else {
		name = f.appendPath(name)
	}
	fd, err := sys.OpenBytes(dir, append(name, 0), flags)
	if err != nil {
		return -1, f.fail("open", err)
	}
	return fd, nil
}

// readOnce fills b by one read. That is the whole file where the kernel renders it in one piece
// (stat, loadavg) and b is large enough: then it costs open, read and close, without looking for
// the end.
func readOnce(f file, b []byte) (int, error) {
	fd, err := openFile(f, 0)
	if err != nil {
		return 0, err
	}
	n, err := sys.ReadBytes(fd, b)
	sys.Close(fd)
	if err != nil {
		return 0, f.fail("read", err)
	}
	return n, nil
}

// readInto reads f into *buf, which it replaces where it has to grow.
func readInto(f file, buf *[]byte, limit int) error {
	fd, err := openFile(f, 0)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	b := (*buf)[:0]
	defer func() { *buf = b[:min(len(b), limit)] }()
	for len(b) <= limit {
		b = grow(b, limit)
		n, err := sys.ReadBytes(fd, b[len(b):min(cap(b), limit+1)])
		if err != nil {
			return f.fail("read", err)
		}
		if n == 0 {
			return nil
		}
		b = b[:len(b)+n]
	}
	return f.fail("read", ErrTooBig)
}

// grow makes room for at least one more byte in b, at most up to limit+1 bytes in all.
// The one byte more is how a reader sees that there was more than limit.
func grow(b []byte, limit int) []byte {
	if len(b) < cap(b) {
		return b
	}
	size := min(2*cap(b), limit+1)
	if size <= cap(b) {
		return b
	}
	bigger := make([]byte, len(b), size)
	copy(bigger, b)
	return bigger
}

// readChunks hands f to visit in pieces, as they come, until the end or until visit returns false.
func readChunks(f file, visit func(chunk []byte) bool) error {
	fd, err := openFile(f, 0)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	buf := getBuffer()
	defer putBuffer(buf)
	b := (*buf)[:cap(*buf)]
	for {
		n, err := sys.ReadBytes(fd, b)
		if err != nil {
			return f.fail("read", err)
		}
		if n == 0 || !visit(b[:n]) {
			return nil
		}
	}
}

// directory is an open directory of /proc.
type directory struct {
	fd   int
	from file
}

func openDirectory(f file) (directory, error) {
	fd, err := openFile(f, syscall.O_DIRECTORY)
	return directory{fd: fd, from: f}, err
}

func (d directory) close() { sys.Close(d.fd) }

// file names a file in d.
func (d directory) file(name string) file {
	return file{place: inOpened, dir: d.fd, pid: d.from.pid, tid: d.from.tid, name: name}
}

// numbers calls visit with each entry that is a decimal number, until it returns false.
func (d directory) numbers(visit func(n int) bool) error {
	buf := getBuffer()
	defer putBuffer(buf)
	b := (*buf)[:cap(*buf)]
	for {
		n, err := syscall.ReadDirent(d.fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return d.from.fail("getdents", err)
		}
		if n <= 0 {
			return nil
		}
		if !eachNumber(b[:n], visit) {
			return nil
		}
	}
}

// readlink reads the link called n in d into b.
func (d directory) readlink(n int, b []byte) (int, error) {
	var name [24]byte
	p := append(strconv.AppendInt(name[:0], int64(n), 10), 0)
	size, err := sys.ReadlinkBytes(d.fd, p, b)
	if err != nil {
		f := d.from
		f.name += "/" + strconv.Itoa(n)
		return 0, f.fail("readlink", err)
	}
	return size, nil
}

// atCWD has a path that is absolute mean itself (AT_FDCWD).
const atCWD = -100
