package procfs

import (
	"bytes"
	"errors"
	"strings"
)

// LookupEnviron finds one variable in /proc/PID/environ, see proc_pid_environ(5), and copies only
// its value. As with getenv(3) the first of several counts. The text is memory of the process: it
// shows what exec was given, unless the process has written there since, which programs that set
// their title do. A last entry without its NUL was cut off and is not looked at: half of a value
// is another value.
func LookupEnviron(data []byte, key string) (value string, ok bool) {
	v, ok := environValue(data, key)
	return string(v), ok
}

// EnvironHas reports whether a variable is in /proc/PID/environ, see [LookupEnviron].
func EnvironHas(data []byte, key string) bool {
	_, ok := environValue(data, key)
	return ok
}

func environValue(data []byte, key string) ([]byte, bool) {
	if key == "" || strings.ContainsAny(key, "=\x00") {
		return nil, false
	}
	for {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return nil, false
		}
		entry := data[:end]
		if len(entry) > len(key) && entry[len(key)] == '=' && string(entry[:len(key)]) == key {
			return entry[len(key)+1:], true
		}
		data = data[end+1:]
	}
}

// EnvironAnswer is what an environment says about a variable.
type EnvironAnswer uint8

const (
	// EnvironUnknown: the environment could not be read, was empty, was longer than our bound or
	// does not look like one any more. It never means that the variable is not set.
	EnvironUnknown EnvironAnswer = iota

	// EnvironAbsent: the text looks whole and does not hold the variable. A title that ran over the
	// beginning of the environment can leave such a text, so this is weak evidence.
	EnvironAbsent

	// EnvironFound: the variable is there.
	EnvironFound
)

// environLimit is more than what exec accepts of arguments and environment together, 6 MiB, see
// execve(2).
const environLimit = 8 << 20

// ReadEnviron looks for one variable in the environment of a process. Kernel threads, zombies and
// processes in the middle of exec have none: that is EnvironUnknown. With it come no error, or on
// newer kernels ESRCH, which matches fs.ErrNotExist although the process is there, or for others
// than root fs.ErrPermission. So it is with a process whose leader exited before its threads; see
// [Thread].
//
// Reading needs PTRACE_MODE_READ_FSCREDS, see ptrace(2), and waits for the memory map of the
// process, which one in trouble can hold for long.
func ReadEnviron(pid int, key string) (value string, answer EnvironAnswer, err error) {
	value, answer, _, err = readEnviron(file{place: inProcess, pid: pid, name: "environ"}, key)
	return value, answer, err
}

// A Thread is one that is held open, so that a thread of ours can read from it even if its mount namespace has
// another /proc.
type Thread struct{ dir directory }

// OpenThread opens a thread of the process that has not exited. See [LiveThread].
func OpenThread(pid int) (Thread, error) {
	tid, err := LiveThread(pid)
	if err != nil {
		return Thread{}, err
	}
	dir, err := openDirectory(file{place: inThread, pid: pid, tid: tid})
	return Thread{dir}, err
}

// Close lets go of the thread.
func (t Thread) Close() { t.dir.close() }

// ErrInExec is matched where a process was in the middle of execve(2) when it was asked: what it will have is not
// there yet.
var ErrInExec = errors.New("in the middle of exec")

// Environ is [ReadEnviron] of the thread's process, but says with ErrInExec where that is why there is none.
func (t Thread) Environ(key string) (value string, answer EnvironAnswer, err error) {
	value, answer, empty, err := readEnviron(t.dir.file("environ"), key)
	if empty && err == nil {
		var buf [statSize]byte
		if n, failed := readOnce(t.dir.file("stat"), buf[:]); failed == nil && inExec(buf[:n]) {
			err = ErrInExec
		}
	}
	return value, answer, err
}

// inExec reports whether /proc/PID/stat is of a process that is in the middle of exec, or has an environment since:
// its new memory is there before its code, and that is there once the environment is. Where ptrace(2) is not
// permitted, the kernel puts 1 for the code.
func inExec(stat []byte) bool {
	n := numbers{line: stat[bytes.LastIndexByte(stat, ')')+1:]}
	n.skip(20) // from state to starttime
	size := n.uint(10, 64)
	n.skip(2) // rss, rsslim
	code := n.uint(10, 64)
	n.skip(23) // from endcode to arg_end
	begin, end := n.uint(10, 64), n.uint(10, 64)
	return !n.bad && size != 0 && (code == 0 || begin != end)
}

func readEnviron(f file, key string) (value string, answer EnvironAnswer, empty bool, err error) {
	type found struct {
		value  string
		answer EnvironAnswer
	}
	r, err := parseFile(f, environLimit, func(data []byte) (found, error) {
		empty = len(data) == 0
		if v, ok := LookupEnviron(data, key); ok {
			return found{v, EnvironFound}, nil
		}
		if !looksLikeEnviron(data) {
			return found{}, nil
		}
		return found{answer: EnvironAbsent}, nil
	})
	switch {
	case r.answer == EnvironFound:
		return r.value, EnvironFound, false, nil
	case errors.Is(err, ErrTooBig):
		return "", EnvironUnknown, false, err
	}
	return "", r.answer, empty, err
}

// looksLikeEnviron reports whether data is still what exec put there: entries with an equals sign,
// the last one ended. Of a title only its end or its padding remains.
func looksLikeEnviron(data []byte) bool {
	if len(data) == 0 || data[len(data)-1] != 0 {
		return false
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, 0)
		if bytes.IndexByte(data[:end], '=') <= 0 {
			return false
		}
		data = data[end+1:]
	}
	return true
}
