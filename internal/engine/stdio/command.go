package stdio

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

var errSpent = errors.New("already started")

// Spend does to a command what a Start that fails does: it closes what StdinPipe, StdoutPipe and
// StderrPipe opened, and makes it unusable. Only os/exec can reach that.
func Spend(cmd *exec.Cmd) {
	err := cmd.Err
	cmd.Err = errSpent // any error: Start looks at it first
	_ = cmd.Start()
	cmd.Err = err
}

// Released returns a process of which Wait knows without asking the kernel that it cannot be waited for.
var Released = sync.OnceValue(func() *os.Process {
	p := new(os.Process)
	_ = p.Release()
	return p
})

// Transient reports whether a start that failed usually succeeds a little later.
func Transient(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ETXTBSY)
}

// FilesOpen reports whether the files that the caller set are still open. A Start that fails closes
// those that StdinPipe and its kin made, and then there is no second try.
func FilesOpen(cmd *exec.Cmd) bool {
	for _, f := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		file, ok := f.(*os.File)
		if !ok || file == nil {
			continue
		}
		conn, err := file.SyscallConn()
		if err != nil || conn.Control(func(uintptr) {}) != nil {
			return false
		}
	}
	return true
}
