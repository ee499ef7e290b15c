// Package syscalls names Linux system calls by their numbers, for the architecture of this program
// and for the 32-bit one that its kernel runs as well.
package syscalls

import (
	"runtime"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run ./generate -out tables.go

// A Table names the system calls of one architecture.
type Table struct {
	names func() map[int]string
}

// Native is the table of this program's own architecture. It is empty on one that we have none for.
func Native() *Table { return byArch(runtime.GOARCH) }

// Compat is the table of the 32-bit programs that run beside ours: those of 386 on amd64, of arm on
// arm64. On other architectures it is Native.
func Compat() *Table {
	switch runtime.GOARCH {
	case "amd64":
		return byArch("386")
	case "arm64":
		return byArch("arm")
	}
	return Native()
}

// Name returns the name of a call in lower case, as in its man page; false if there is none.
func (t *Table) Name(number int) (string, bool) {
	name, ok := t.names()[number]
	return name, ok
}

// Describe returns the name of a call, or "syscall N".
func (t *Table) Describe(number int) string {
	if name, ok := t.Name(number); ok {
		return name
	}
	return "syscall " + strconv.Itoa(number)
}

var tables = map[string]*Table{
	"amd64":   lazily(tableAMD64),
	"arm64":   lazily(tableARM64),
	"386":     lazily(table386),
	"arm":     lazily(tableARM),
	"riscv64": lazily(tableRISCV64),
}

func byArch(arch string) *Table {
	if t := tables[arch]; t != nil {
		return t
	}
	return &Table{names: func() map[int]string { return nil }}
}

// lazily parses a table when it is first asked, which for most programs is never.
func lazily(text string) *Table {
	return &Table{names: sync.OnceValue(func() map[int]string { return parse(text) })}
}

// parse reads names that are separated by blanks: each has the number after that of the one before,
// unless a number stands in front of it.
func parse(text string) map[int]string {
	names := make(map[int]string)
	next := 0
	for word := range strings.FieldsSeq(text) {
		if n, err := strconv.Atoi(word); err == nil {
			next = n
			continue
		}
		names[next] = word
		next++
	}
	return names
}
