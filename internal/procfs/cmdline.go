package procfs

import "strings"

// ParseCmdline splits /proc/PID/cmdline at its NULs, see proc_pid_cmdline(5). Empty arguments are
// kept, also at the end, where they may as well be the padding of a program that set its title.
// Such a title often comes as one argument. Kernel threads and zombies have none: nil.
//
// The text is memory of the process: it can say anything. It may hold secrets.
func ParseCmdline(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// cmdlineLimit is for showing: 32 pages, as much as Linux lets a single argument have.
const cmdlineLimit = 128 << 10

// ReadCmdline reads the arguments of a process. Of more than 128 KiB the beginning is returned with
// ErrTooBig. It waits for the memory map of the process, as [ReadEnviron] does.
func ReadCmdline(pid int) ([]string, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "cmdline"}, cmdlineLimit,
		func(data []byte) ([]string, error) { return ParseCmdline(data), nil })
}
