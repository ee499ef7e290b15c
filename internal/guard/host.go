package guard

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/reexec"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// variable makes a copy of the program the helper.
const variable = "SAFEEXEC_GUARD"

// helperName is what ps(1) shows, at most 15 bytes.
const helperName = "safeexec-guard"

// startBound is how long a helper may take until it watches.
const startBound = 10 * time.Second

// restartPause is how long after its start a helper that died is not replaced, nor the one after that for twice as
// long, up to the last one: something ends it again and again.
const (
	restartPause     = 100 * time.Millisecond
	lastRestartPause = 10 * time.Second
)

// ready is set by Ready.
var ready atomic.Bool

// starts counts those that were written down.
var starts atomic.Uint64

// host is this program's side.
var host struct {
	sync.Mutex
	socket *os.File  // to the helper; nil while there is none
	start  *starting // under way; nil if none is
	table  *os.File  // once set it stays
	free   []int     // places
	places int
	runs   int           // that have one
	lost   int           // helpers that died
	pause  time.Duration // before the last replacement
}

// A starting is one start of a helper.
type starting struct {
	done chan struct{}
	err  error // once done is closed
}

// Available reports whether Init was called: the program can be its own helper.
func Available() bool { return ready.Load() }

// A Ward is a run that is guarded. A nil Ward is one that is not.
type Ward struct {
	place int
	lost  int
	start uint64 // the number of the last one
}

// Take gives a run a place in the table, once there is a helper, which it starts if there is none. It takes until
// then at most, or until quit is closed; a start that is under way goes on, for the next run.
func Take(quit <-chan struct{}, until time.Time) (*Ward, error) {
	if bound := time.Now().Add(2 * startBound); until.IsZero() || bound.Before(until) {
		until = bound
	}
	for {
		if err := await(quit, until); err != nil {
			return nil, err
		}
		host.Lock()
		if host.socket != nil { // else it has died since
			break
		}
		host.Unlock()
	}
	defer host.Unlock()
	w := &Ward{place: host.places, lost: host.lost}
	if n := len(host.free); n > 0 {
		w.place, host.free = host.free[n-1], host.free[:n-1]
	} else {
		host.places++
	}
	host.runs++
	return w, nil
}

// await waits until there is a helper.
func await(quit <-chan struct{}, until time.Time) error {
	start := begin()
	if start == nil {
		return nil
	}
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case <-start.done:
		return start.err
	case <-late.C:
	case <-quit:
	}
	return errSlow
}

// Set writes down a run before its start. A start that is tried again sets it again.
func (w *Ward) Set(run Run) error {
	if w == nil {
		return nil
	}
	w.start = starts.Add(1)
	return table{host.table}.set(w.place, w.start, &run)
}

// Started records the leader.
func (w *Ward) Started(trace proctree.Trace) {
	if w != nil {
		_ = table{host.table}.started(w.place, w.start, &trace) // without it the marks tell
	}
}

// End takes the run out of the table. It returns how many helpers died meanwhile.
func (w *Ward) End() int {
	if w == nil {
		return 0
	}
	table{host.table}.remove(w.place)
	host.Lock()
	defer host.Unlock()
	host.free = append(host.free, w.place)
	host.runs--
	return host.lost - w.lost
}

// begin starts a helper and returns that start, or one that is under way; nil if there is a helper.
func begin() *starting {
	host.Lock()
	defer host.Unlock()
	if host.socket != nil {
		return nil
	}
	if host.start == nil {
		start := &starting{done: make(chan struct{})}
		host.start = start
		go start.run()
	}
	return host.start
}

func (s *starting) run() {
	began := time.Now()
	var socket *os.File
	var log error
	err := reexec.Insist(func() (err error) {
		socket, log, err = spawn(began.Add(startBound))
		return err
	})
	host.Lock()
	defer host.Unlock()
	host.start = nil
	if log != nil && host.runs == 0 { // those under way are better guarded without a log than not
		reexec.Dismiss(socket)
		socket, err = nil, log
	}
	host.socket, s.err = socket, err
	close(s.done)
	if err == nil {
		go attend(socket, began)
	}
}

// spawn starts a helper and waits until it watches. It also returns what is wrong with the helper's log.
func spawn(until time.Time) (socket *os.File, log, err error) {
	if proctree.Foreign() { // it would find no process there
		return nil, nil, errors.New("needs the /proc of this PID namespace")
	}
	table, err := openTable()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	socket, err = reexec.Start(ctx, variable, helperName, table)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, nil, errSlow
	case err != nil:
		return nil, nil, err
	}
	if log, err = awaitHello(socket, until); err != nil {
		reexec.Dismiss(socket)
		return nil, nil, err
	}
	return socket, log, nil
}

func openTable() (*os.File, error) {
	host.Lock()
	defer host.Unlock()
	if host.table != nil {
		return host.table, nil
	}
	file, err := sys.Memfd(helperName)
	if err == nil {
		host.table = file
	}
	return file, err
}

var (
	errSlow  = errors.New("the guard takes too long to start")
	errNoOne = errors.New("the guard died when it was started: is guard.Init called first in main?")
)

// hello is what the helper says once it watches, followed by what is wrong with its log.
const (
	hello = "+"

	maxHello = 16 << 10 // a path has at most 4 KiB, which JSON may make longer
)

func awaitHello(socket *os.File, until time.Time) (log, err error) {
	if err := socket.SetReadDeadline(until); err != nil {
		return nil, err
	}
	said := make([]byte, maxHello)
	n, err := socket.Read(said)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errSlow
	case err != nil || n < len(hello):
		return nil, errNoOne
	}
	return problemIn(said[len(hello):n]), socket.SetReadDeadline(time.Time{})
}

// attend waits for the helper's death, and replaces it while runs are guarded.
func attend(socket *os.File, began time.Time) {
	var none [1]byte
	_, _ = socket.Read(none[:])
	host.Lock()
	socket.Close()
	host.socket = nil
	host.lost++
	if time.Since(began) > lastRestartPause {
		host.pause = 0
	}
	host.Unlock()
	for {
		pause, wanted := nextPause()
		if !wanted {
			return // what wants one next starts one
		}
		time.Sleep(time.Until(began.Add(pause)))
		began = time.Now()
		if await(nil, began.Add(2*startBound)) == nil {
			return
		}
	}
}

// nextPause reports whether runs are guarded, and by no helper, and how long after the last start the next one may be.
func nextPause() (time.Duration, bool) {
	host.Lock()
	defer host.Unlock()
	if host.runs == 0 || host.socket != nil {
		return 0, false
	}
	host.pause = min(max(2*host.pause, restartPause), lastRestartPause)
	return host.pause, true
}
