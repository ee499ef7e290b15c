// Package guard ends commands when the program that runs them dies.
//
// A command leads a session of its own, so that neither Ctrl-C nor the death of the program ends it. A program that
// catches signals ends its commands itself; the guard is for what it cannot catch, SIGKILL or a lack of memory:
//
//	func main() {
//		guard.Init(guard.LogFile("/var/log/app/guard.log"))
//		...
//		res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Minute), safeexec.WithGuard())
//
// The guard is one small process a program, the program's own file executed once more, started with the first run
// that has [safeexec.WithGuard]. It sleeps until the program is gone: killed, ended by os.Exit or a panic, or replaced
// by execve(2). Then it ends every tree that is left by the ladder of its run, logs what it did, and ends. It ignores
// SIGTERM, Ctrl-C and hangups. If the guard is killed, the program replaces it, and the Result says so. It has the
// privileges that the program had at its first guarded run: drop yours before.
//
// # Limits
//
// When the first process of a container ends, or the machine stops, the kernel ends all, the guard included. The guard
// logs a process in uninterruptible sleep as a survivor. If the guard is killed, and then the program before it could
// replace the guard, the trees live on. The kernel can kill the guard for want of memory too, although it is small.
// Package-level initialization of the program runs in the guard as well. A program that adopts orphans, as the first
// process of a container or a subreaper, has a descriptor and a goroutine for the guard until that ends.
//
// Linux only: elsewhere Init does nothing, and WithGuard is refused.
package guard

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/guard"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// An Option says where the guard writes what it did.
type Option interface {
	check() error
	open() *slog.Logger
}

type logFile string

// LogFile makes the guard append a line of JSON for each tree that it ended, and for each that it could not end, to a
// file, which it makes if there is none, for this user alone. The path is absolute, or relative to the root
// directory. If the file cannot be opened when the guard starts, Run refuses with an error that matches
// ErrGuard and is an *[fs.PathError].
func LogFile(path string) Option { return logFile(path) }

// check opens it for a moment. A FIFO may get its reader later.
func (l logFile) check() error {
	file, err := os.OpenFile(string(l), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

func (l logFile) open() *slog.Logger {
	file, err := os.OpenFile(string(l), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil // there is nowhere to report it
	}
	return slog.New(slog.NewJSONHandler(file, nil))
}

// Init comes first in main, and in TestMain of tests that use [safeexec.WithGuard]. It returns at once, except in the
// copy of the program that is the guard, where it does not return. Options must not depend on the arguments, which
// the copy does not have.
func Init(opts ...Option) {
	opts = slices.DeleteFunc(slices.Clone(opts), func(o Option) bool { return o == nil })
	guard.Init(guard.Log{
		Check: func() error {
			for _, o := range opts {
				if err := o.check(); err != nil {
					return err
				}
			}
			return nil
		},
		Write: func(did guard.Ended) {
			for _, o := range opts {
				if l := o.open(); l != nil {
					write(l, did)
				}
			}
		},
	})
}

// write makes one record. It holds no arguments.
func write(l *slog.Logger, did guard.Ended) {
	fields := []any{
		slog.Int("host", did.Host), slog.String("program", did.Program), slog.Int("pid", did.PID),
		slog.Any("killed", names(did.Killed)), slog.Any("survivors", names(did.Survivors)),
		slog.Duration("took", did.Took),
	}
	if did.Err != nil {
		l.Error("tree of a program that died", append(fields, slog.String("error", did.Err.Error()))...)
		return
	}
	l.Warn("tree of a program that died", fields...)
}

type process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

func names(list []proctree.Process) []process {
	all := make([]process, 0, len(list))
	for _, p := range list {
		all = append(all, process{p.PID, p.Name})
	}
	return all
}
