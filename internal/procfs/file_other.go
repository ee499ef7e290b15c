//go:build !linux

package procfs

import (
	"io"
	"os"
	"strconv"
)

// There is no Linux /proc here. These compile, and fail in os.Open with fs.ErrNotExist; where some
// other kernel has a /proc of its own, the parsers find it malformed.

func isNoProcess(error) bool { return false }

func open(f file) (*os.File, error) {
	h, err := os.Open(string(f.appendPath(nil)))
	if err != nil {
		return nil, f.fail("open", err)
	}
	return h, nil
}

func readOnce(f file, b []byte) (int, error) {
	h, err := open(f)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	n, err := h.Read(b)
	if err != nil && err != io.EOF {
		return 0, f.fail("read", err)
	}
	return n, nil
}

func readInto(f file, buf *[]byte, limit int) error {
	h, err := open(f)
	if err != nil {
		return err
	}
	defer h.Close()
	b, err := io.ReadAll(io.LimitReader(h, int64(limit)+1))
	*buf = b[:min(len(b), limit)]
	switch {
	case err != nil:
		return f.fail("read", err)
	case len(b) > limit:
		return f.fail("read", ErrTooBig)
	}
	return nil
}

func readChunks(f file, visit func(chunk []byte) bool) error {
	h, err := open(f)
	if err != nil {
		return err
	}
	defer h.Close()
	b := make([]byte, bufferSize)
	for {
		n, err := h.Read(b)
		if n > 0 && !visit(b[:n]) || err == io.EOF {
			return nil
		}
		if err != nil {
			return f.fail("read", err)
		}
	}
}

type directory struct {
	h    *os.File
	from file
}

func openDirectory(f file) (directory, error) {
	h, err := open(f)
	return directory{h: h, from: f}, err
}

func (d directory) close() { _ = d.h.Close() }

func (d directory) file(name string) file {
	return file{place: inOpened, pid: d.from.pid, tid: d.from.tid, name: name}
}

func (d directory) numbers(visit func(n int) bool) error {
	for {
		names, err := d.h.Readdirnames(256)
		for _, name := range names {
			if n, ok := entryNumber([]byte(name)); ok && !visit(n) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return d.from.fail("getdents", err)
		}
	}
}

func (d directory) readlink(n int, b []byte) (int, error) {
	f := d.from
	f.name += "/" + strconv.Itoa(n)
	link, err := os.Readlink(string(f.appendPath(nil)))
	if err != nil {
		return 0, f.fail("readlink", err)
	}
	return copy(b, link), nil
}

// Foreign reports whether /proc shows another PID namespace than ours: only Linux has them.
func Foreign() bool { return false }

// Absent reports whether there is no /proc: that is no news elsewhere.
func Absent() bool { return false }
