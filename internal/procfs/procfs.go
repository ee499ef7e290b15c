// Package procfs reads the text that the Linux kernel offers under /proc.
//
// It has two layers. The parsers (Parse…, Lookup…) are pure: bytes in, values out, no I/O, no
// panic, memory in proportion to the input. The readers (Read…, PIDs, FDs …) are thin: they open,
// read within a bound and call the parser. Parsers copy what they keep; no result aliases its
// input unless its comment says so.
//
// Most of /proc is written by the kernel but *named by its subjects*: a process chooses its own
// name, arguments, environment, file names and socket names, newlines and brackets included. Each
// parser says what its subject can forge. Everything here is a snapshot: a number that was read
// names the process it was read from only while something else pins it.
//
// The package compiles on every platform. Where there is no /proc, readers fail with an error that
// matches [io/fs.ErrNotExist].
package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// Self stands for /proc/self where a reader takes a PID. It is right where os.Getpid is not: when
// /proc was mounted for another PID namespace. The value is one that no PID, process group or
// failed call has, so that a stray 0 or -1 never reads our own files by accident.
const Self = -1 << 31

// TicksPerSecond is USER_HZ, the unit of the times in /proc/PID/stat. It is part of the kernel's
// ABI and 100 on every architecture that Go supports, see time(7).
const TicksPerSecond = 100

var (
	// ErrSyntax is matched by the errors of all parsers: the text is not what the man page says.
	// A file that was cut off is malformed too.
	ErrSyntax = errors.New("malformed")

	// ErrTooBig is matched when a file or a list is longer than the reader's bound. What was read
	// up to there is returned with it.
	ErrTooBig = errors.New("larger than its bound")
)

// Error is the failure to read one file or directory of /proc.
//
// It matches [io/fs.ErrNotExist] when the process is gone (ENOENT from open, ESRCH from read), when
// it is hidden from us (hidepid=2, see proc(5)) and when the kernel does not have the file; the
// three cannot be told apart here. It matches [io/fs.ErrPermission] for EACCES and EPERM.
type Error struct {
	Op   string // open, read, getdents, readlink, parse or list
	Path string
	Err  error
}

func (e *Error) Error() string { return "procfs: " + e.Op + " " + e.Path + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Is makes ESRCH match fs.ErrNotExist, which syscall.Errno alone does not.
func (e *Error) Is(target error) bool { return target == fs.ErrNotExist && isNoProcess(e.Err) }

// Ticks converts clock ticks, as in [Stat.UTime], to a duration. Values beyond the range of
// Duration become the largest one.
func Ticks(n uint64) time.Duration {
	const tick = time.Second / TicksPerSecond
	if n > uint64(1<<63-1)/uint64(tick) {
		return 1<<63 - 1
	}
	return time.Duration(n) * tick
}

func isNotExist(err error) bool { return err != nil && errors.Is(err, fs.ErrNotExist) }

// malformed says which file and which part of it did not parse.
func malformed(file, part string) error {
	return fmt.Errorf("%s: %s: %w", file, part, ErrSyntax)
}

// place is where below /proc a file lies.
type place uint8

const (
	inRoot    place = iota // /proc/NAME
	inProcess              // /proc/PID/NAME
	inThread               // /proc/PID/task/TID/NAME
	inOpened               // the same, in a directory that is open
)

// file names one file of /proc without building its path, which the hot readers do on their stack.
type file struct {
	place place
	pid   int
	tid   int
	dir   int // with inOpened
	name  string
}

// appendPath appends the path of f to b.
func (f file) appendPath(b []byte) []byte {
	b = append(b, "/proc/"...)
	if f.place != inRoot {
		b = appendPID(b, f.pid)
		b = append(b, '/')
	}
	if f.place == inThread || f.place == inOpened {
		b = append(b, "task/"...)
		b = appendPID(b, f.tid)
		b = append(b, '/')
	}
	return append(b, f.name...)
}

func appendPID(b []byte, pid int) []byte {
	if pid == Self {
		return append(b, "self"...)
	}
	return strconv.AppendInt(b, int64(pid), 10)
}

// fail wraps err for f. It is the only place where the path becomes a string.
func (f file) fail(op string, err error) error {
	return &Error{Op: op, Path: string(f.appendPath(nil)), Err: err}
}

// parseFile reads f up to limit bytes and hands them to parse, which must not keep them. Of a file
// that is longer, parse gets the beginning and the error is ErrTooBig.
func parseFile[T any](f file, limit int, parse func([]byte) (T, error)) (T, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	err := readInto(f, buf, limit)
	if err != nil && !errors.Is(err, ErrTooBig) {
		var none T
		return none, err
	}
	v, perr := parse(*buf)
	if err == nil && perr != nil {
		err = f.fail("parse", perr)
	}
	return v, err
}
