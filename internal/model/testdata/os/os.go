// Package os is what proctree uses of the real one, on a simulated kernel.
package os

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/seed841d8200/safeexec/internal/model/testdata/kernel"
)

type (
	File   = os.File
	Signal = os.Signal
)

var ErrProcessDone = os.ErrProcessDone

func Getpid() int  { return kernel.K.Self() }
func Getppid() int { return kernel.K.Host().Parent() }
func Getegid() int { return 0 }
func Geteuid() int { return 0 }

func Environ() []string               { return nil }
func LookupEnv(string) (string, bool) { return "", false }

func ReadFile(name string) ([]byte, error) {
	switch name {
	case "/proc/sys/kernel/pid_max":
		return fmt.Appendln(nil, kernel.K.PIDMax), nil
	case "/sys/devices/system/cpu/possible":
		return fmt.Appendf(nil, "0-%d\n", kernel.K.CPUs-1), nil
	}
	return nil, fs.ErrNotExist
}

// A Process is a child.
type Process struct {
	Pid  int
	Held *kernel.Proc
}

func (p *Process) WithHandle(f func(uintptr)) error {
	fd := kernel.K.Hold(p.Held)
	defer kernel.K.Close(fd)
	f(uintptr(fd))
	return nil
}

func (p *Process) Signal(Signal) error { return nil }
