package procfs

import (
	"encoding/binary"
	"math/bits"
)

// The keys of /proc/PID/auxv that are looked at, see getauxval(3).
const (
	auxEnd    = 0
	auxExecFD = 2
)

// ParseExecFD finds AT_EXECFD in /proc/PID/auxv, pairs of words of the reader's own size: the
// descriptor of the program that the kernel opened for its interpreter, which binfmt_misc does
// where it is told so. It is -1 where there is none, and in what does not look like it, as that of
// a program of the other word size.
func ParseExecFD(data []byte) (int, error) {
	const word = bits.UintSize / 8
	for len(data) >= 2*word {
		key, value := auxWord(data), auxWord(data[word:])
		switch key {
		case auxEnd:
			return -1, nil
		case auxExecFD:
			if value > 1<<31-1 {
				return -1, malformed("auxv", "AT_EXECFD")
			}
			return int(value), nil
		}
		data = data[2*word:]
	}
	return -1, nil
}

func auxWord(b []byte) uint64 {
	if bits.UintSize == 32 {
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}

// ReadExecFD reads AT_EXECFD of a process, see [ParseExecFD]. It needs the permission that
// [WalkFDs] needs.
func ReadExecFD(pid int) (int, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "auxv"}, 64<<10, ParseExecFD)
}
