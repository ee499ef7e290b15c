package sys

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blockSize is the unit of ru_inblock and ru_oublock, whatever the file system's is (task_io_accounting_ops.h).
const blockSize = 512

// UsageOf returns what a process of ours that was reaped has used, and the children that it has waited for
// (wait4(2), getrusage(2)). It reports false where that is not known.
func UsageOf(state *os.ProcessState) (Usage, bool) {
	used, ok := state.SysUsage().(*syscall.Rusage)
	if !ok || used == nil {
		return Usage{}, false
	}
	return usageOf((*unix.Rusage)(unsafe.Pointer(used))), true // one struct, under two names
}

func usageOf(used *unix.Rusage) Usage {
	return Usage{
		User:    time.Duration(used.Utime.Nano()),
		System:  time.Duration(used.Stime.Nano()),
		Peak:    int64(used.Maxrss) << 10,        //nolint:unconvert // of 32 bits elsewhere
		Read:    int64(used.Inblock) * blockSize, //nolint:unconvert // likewise
		Written: int64(used.Oublock) * blockSize, //nolint:unconvert // likewise
	}
}
