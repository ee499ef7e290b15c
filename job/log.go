package job

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// logGrain is what holes of a log are rounded to: a multiple of every file system's blocks.
const logGrain = 64 << 10

// openLog opens a log for a command to append to, and returns where its output will begin.
func openLog(path string, limit int64) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && limit > 0 {
		err = holesIn(path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// holesIn tries, in a file beside the log, whether the file system has holes and shows them.
func holesIn(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), holesFile)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.Write(bytes.Repeat([]byte{'x'}, 2*logGrain)); err != nil {
		return err
	}
	var from int64
	err = control(f, func(fd int) (err error) {
		if err = sys.PunchHole(fd, 0, logGrain); err == nil {
			from, err = sys.DataFrom(fd, 0)
		}
		return err
	})
	if err != nil || from != logGrain {
		return errors.Join(ErrLogBound, err)
	}
	return nil
}

func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := conn.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// dataFrom returns where what is left of a log begins, from off on: its end if nothing is.
func dataFrom(f *os.File, off int64) (from, size int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if off >= st.Size() {
		return off, st.Size(), nil
	}
	err = control(f, func(fd int) (err error) {
		from, err = sys.DataFrom(fd, off)
		return err
	})
	if sys.NoData(err) {
		return st.Size(), st.Size(), nil
	}
	return from, st.Size(), err
}

// logPause is how long the log may be written to between two looks at its size.
const logPause = 50 * time.Millisecond

// boundLog gives back the oldest of the log. While nothing is written it sleeps.
func (k *keeper) boundLog() {
	var f *os.File
	for { // until there is a descriptor
		var err error
		if f, err = os.OpenFile(k.job.LogPath(), os.O_RDWR, 0); err == nil {
			break
		}
		if sleep(k.ctx, blindPause) != nil {
			return
		}
	}
	defer f.Close()
	w := watchWrites(k.job.LogPath())
	defer w.close()
	from, _, err := dataFrom(f, 0)
	if err != nil {
		return
	}
	for {
		from = k.punch(f, from)
		if w.await(k.ctx, func() bool { return k.grown(f, from) }) != nil {
			return
		}
		if sleep(k.ctx, logPause) != nil {
			return
		}
	}
}

func (k *keeper) grown(f *os.File, from int64) bool {
	st, err := f.Stat()
	return err == nil && st.Size()-from >= k.set.LogMax*k.set.LogKeep
}

// punch gives back as many steps as it takes, and returns where the rest begins.
func (k *keeper) punch(f *os.File, from int64) int64 {
	st, err := f.Stat()
	if err != nil {
		return from
	}
	if st.Size() < from { // the job has truncated it
		from = 0
	}
	upTo := from
	for st.Size()-upTo >= k.set.LogMax*k.set.LogKeep {
		upTo += k.set.LogMax
	}
	upTo -= upTo % logGrain
	if upTo <= from {
		return from
	}
	if control(f, func(fd int) error { return sys.PunchHole(fd, 0, upTo) }) != nil {
		return from
	}
	return upTo
}

// A writeWatch waits for writes to a file.
type writeWatch struct {
	path string
	file *os.File // of inotify; nil where there is no room for one
}

func watchWrites(path string) *writeWatch {
	w := &writeWatch{path: path}
	if fd, err := sys.WatchWrites(path); err == nil {
		w.file = os.NewFile(uintptr(fd), "inotify")
	}
	return w
}

func (w *writeWatch) close() {
	if w.file != nil {
		w.file.Close()
	}
}

// blindPause is how often a file is looked at where its writes cannot be waited for.
const blindPause = 200 * time.Millisecond

// await waits for a write. It asks, once it would notice one, whether there is something already.
func (w *writeWatch) await(ctx context.Context, already func() bool) error {
	if w.file == nil {
		return sleep(ctx, blindPause)
	}
	if err := control(w.file, func(fd int) error { return sys.ArmWatch(fd, w.path) }); err != nil {
		return sleep(ctx, blindPause)
	}
	if already() {
		return ctx.Err()
	}
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		return sleep(ctx, blindPause)
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte
	if _, err := w.file.Read(buf[:]); err != nil && ctx.Err() == nil {
		return sleep(ctx, blindPause)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
