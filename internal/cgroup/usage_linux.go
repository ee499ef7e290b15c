package cgroup

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// CPU returns the processor time of all that was ever in the leaf or below it: cpu.stat, which is there without
// controllers too.
func (l *Leaf) CPU() (user, system time.Duration, ok bool) {
	text, err := os.ReadFile(l.dir + "/cpu.stat")
	if err != nil {
		return 0, 0, false
	}
	u, isUser := value(text, "user_usec")
	s, isSystem := value(text, "system_usec")
	if !isUser || !isSystem {
		return 0, 0, false
	}
	return time.Duration(u) * time.Microsecond, time.Duration(s) * time.Microsecond, true
}

// MemoryPeak returns the most that all in the leaf together had at a moment, in bytes: memory.peak, of Linux 5.19
// with the memory controller.
func (l *Leaf) MemoryPeak() (int64, bool) {
	text, err := os.ReadFile(l.dir + "/memory.peak")
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}
