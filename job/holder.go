package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/reexec"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// holderVariable makes a copy of the program the holder of a job's exit status, and holderName is what ps(1) shows.
const (
	holderVariable = "SAFEEXEC_JOB_HOLDER"
	holderName     = "safeexec-job"
)

// canHold is set by Init.
var canHold atomic.Bool

// Init comes first in main, and in TestMain, of a program that uses [KeepStatus]. It returns at once, except in the
// copy of the program that holds the exit status of a job, where it does not return.
func Init() {
	copied := reexec.Became(holderVariable, holderName)
	if copied == nil {
		canHold.Store(true)
		return
	}
	if len(copied.Files) == 2 {
		hold(copied.Socket, copied.Files[0], copied.Files[1])
	}
	os.Exit(0) //nolint:forbidigo // a program of its own
}

// An order is what the program sends a holder.
type order struct {
	Root   string
	Record *record
}

// An answer is what came of it.
type answer struct {
	Failed bool
	Text   string
	Is     []string // the texts of those of errorsTold that it matches
	Errno  int
	Left   bool
}

// errorsTold are those that a start can match.
var errorsTold = []error{
	safeexec.ErrLimits, safeexec.ErrStartStalled, safeexec.ErrTreeUnseen, safeexec.ErrSurvivors, ErrLogBound,
	os.ErrPermission, os.ErrNotExist,
}

// A toldError is an error of the holder's start.
type toldError struct {
	text string
	is   []error
}

func (e *toldError) Error() string   { return e.text }
func (e *toldError) Unwrap() []error { return e.is }

func answerOf(err error, left bool) answer {
	a := answer{Failed: err != nil, Left: left}
	if err == nil {
		return a
	}
	a.Text = err.Error()
	a.Text = a.Text[:min(len(a.Text), maxText)]
	for _, told := range errorsTold {
		if errors.Is(err, told) {
			a.Is = append(a.Is, told.Error())
		}
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		a.Errno = int(errno)
	}
	return a
}

func (a answer) err() error {
	if !a.Failed {
		return nil
	}
	e := &toldError{text: a.Text}
	for _, told := range errorsTold {
		for _, text := range a.Is {
			if told.Error() == text {
				e.is = append(e.is, told)
			}
		}
	}
	if a.Errno != 0 {
		e.is = append(e.is, syscall.Errno(a.Errno))
	}
	return e
}

// holderBound is more than a start takes at most; abandonBound, to give one up.
const (
	holderBound  = time.Minute
	abandonBound = 30 * time.Second
)

// runHeld lets a holder start the command. The holder shares the lock of the record, so that if this program is killed
// no other works on the record before the holder is done with it.
func (l *launch) runHeld(ctx context.Context) error {
	conn, err := l.startHolder(ctx)
	if err != nil {
		l.left = ctx.Err() != nil // it may be about to start the command: Adopt finds what it has written
		return fmt.Errorf("%w: %w", ErrHolder, err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(holderBound)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetReadDeadline(time.Now().Add(abandonBound))
		_ = conn.CloseWrite()
	})
	defer stop()
	text := make([]byte, 16<<10)
	n, err := conn.Read(text)
	var a answer
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.left = true
		return errors.Join(safeexec.ErrStartStalled, context.Cause(ctx))
	case n == 0 || json.Unmarshal(text[:n], &a) != nil:
		return l.endOrphan()
	}
	l.left = a.Left
	r, err := read(l.job.dir())
	if err == nil && r.Run == l.record.Run+1 {
		l.record = r
	}
	if failed := a.err(); failed != nil {
		return errors.Join(failed, context.Cause(ctx))
	}
	l.left = err != nil // it runs, and Adopt finds it once the record can be read
	return err
}

func (l *launch) startHolder(ctx context.Context) (*net.UnixConn, error) {
	spec, err := sys.Memfd(holderName)
	if err != nil {
		return nil, err
	}
	defer spec.Close()
	if err := json.NewEncoder(spec).Encode(order{l.job.store.root, l.record}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, holderBound)
	defer cancel()
	socket, err := reexec.Start(ctx, holderVariable, holderName, spec, l.lock)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil //nolint:forcetypeassert // which is what it made
}

// endOrphan ends what a holder has started that was killed meanwhile.
func (l *launch) endOrphan() error {
	r, err := read(l.job.dir())
	if err != nil || r.Run != l.record.Run+1 {
		return ErrHolder
	}
	l.record = r
	ctx, cancel := context.WithTimeout(context.Background(), r.Settings.Kill)
	defer cancel()
	_, err = endTree(ctx, r.Trace, r.Settings.killOnly())
	l.left = err != nil
	return errors.Join(ErrHolder, err)
}

// errAbandoned says that the program that wanted a start has given it up, or is dead.
var errAbandoned = errors.New("start is abandoned")

// hold is the holder: it starts the command, waits for it as its parent, writes down how it ended, and ends. Of the
// program it has nothing from the start on but a lock, which says that it lives.
func hold(socket, spec, lock *os.File) {
	runtime.GOMAXPROCS(1)
	var o order
	s := &Store{keepers: make(map[string]*keeper)}
	err := json.NewDecoder(io.NewSectionReader(spec, 0, math.MaxInt64)).Decode(&o)
	if err == nil {
		s.root = o.Root
		s.place, err = here()
	}
	if err != nil || o.Record == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		_, _ = socket.Read(make([]byte, 1))
		cancel(errAbandoned)
	}()
	l := &launch{job: &Job{s, o.Record.Name}, record: o.Record}
	held, locked, err := lockKeeper(l.job.dir(), holds(o.Record.Run+1))
	if err == nil && !locked {
		err = ErrBusy
	}
	defer runtime.KeepAlive(held) // until this process ends
	if err == nil {
		err = l.runHere(ctx)
	}
	text, e := json.Marshal(answerOf(err, l.left))
	lock.Close()
	spec.Close()
	if e == nil {
		_, _ = socket.Write(text)
	}
	socket.Close()
	if err != nil {
		return
	}
	if state, err := l.own.Process.Wait(); err == nil {
		writeExit(l.job.dir(), l.record, exited{l.record.Boot, exitOfState(state), usageOf(state)})
	}
}

// holds is the byte of a run's holder in the file of the keepers' locks.
func holds(run int) int64 { return 1<<40 + int64(run) }

// An exited is what a holder writes.
type exited struct {
	Boot string `json:"boot"`
	Exit *Exit  `json:"exit"`
	Used *Usage `json:"used"`
}

// exitFile names what a holder writes: the process, since a job of the same name may have been started meanwhile.
func (r *record) exitFile() string {
	return fmt.Sprintf("%s%d-%d", exitPrefix, r.Trace.PID, r.Trace.Start)
}

// exitPrefix begins the names of those files.
const exitPrefix = "exit-"

func writeExit(dir string, r *record, e exited) {
	now, err := read(dir)
	if err != nil || now.exitFile() != r.exitFile() {
		return // cleaned, or started anew
	}
	text, err := json.Marshal(e)
	if err == nil {
		path := filepath.Join(dir, r.exitFile())
		_ = replace(path, path+".new", text, 0o600)
	}
}

// addExit adds what a holder has written to a record that does not have it.
func (r *record) addExit(dir string) {
	if !r.Settings.KeepStatus || r.Trace.PID == 0 || r.Exit != nil && r.Used != nil {
		return
	}
	text, err := os.ReadFile(filepath.Join(dir, r.exitFile()))
	if err != nil {
		return
	}
	var e exited
	if json.Unmarshal(text, &e) == nil && e.Boot == r.Boot && e.Exit != nil {
		r.Exit, r.Used = e.Exit, e.Used
	}
}

// removeExits removes what holders have written.
func removeExits(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, exitPrefix+"*"))
	for _, path := range paths {
		_ = os.Remove(path)
	}
}
