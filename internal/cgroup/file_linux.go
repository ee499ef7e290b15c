package cgroup

import (
	"bytes"
	"os"
	"strconv"
)

// write writes one value to an interface file, which is never made: where the kernel or a controller
// does not offer it there is an error that matches fs.ErrNotExist.
func write(dir, name, value string) error {
	f, err := os.OpenFile(dir+"/"+name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// value returns the number behind key in a flat keyed file, "key number" one a line.
func value(text []byte, key string) (uint64, bool) {
	for line := range bytes.Lines(text) {
		k, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok && string(k) == key {
			n, err := strconv.ParseUint(string(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// numbers calls f with each number of a file that has one a line, until it returns false.
func numbers(text []byte, f func(n int) bool) {
	for line := range bytes.Lines(text) {
		n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err == nil && !f(n) {
			return
		}
	}
}

// listed reports whether a file with names between blanks has this one.
func listed(text []byte, name string) bool {
	for field := range bytes.FieldsSeq(text) {
		if string(field) == name {
			return true
		}
	}
	return false
}
