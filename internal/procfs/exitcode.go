package procfs

import (
	"bytes"
	"strconv"
)

// ParseExitCode returns the wait status from the /proc/PID/stat of a zombie, its last field
// (proc_pid_stat(5)). It is also 0 if the reader may not trace the process.
func ParseExitCode(data []byte) (int, error) {
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const all = 50 // the fields behind the name
	if len(fields) < all {
		return 0, malformed("stat", "exit_code")
	}
	code, err := strconv.ParseUint(string(fields[all-1]), 10, 16)
	if err != nil {
		return 0, malformed("stat", "exit_code")
	}
	return int(code), nil
}

// ReadExitCode returns the wait status of a zombie. The caller knows that pid means it.
func ReadExitCode(pid int) (int, error) {
	return parseFile(file{pid: pid, place: inProcess, name: "stat"}, statSize, ParseExitCode)
}
