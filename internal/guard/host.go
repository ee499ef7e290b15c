package guard

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// variable tells a copy of the program that it is the helper, and at which stage: STAGE:PID:START of the program.
const variable = "SAFEEXEC_GUARD"

// The stages. The first starts the second and exits, so that the helper is no child of the program.
const (
	stagePart  = "part"
	stageWatch = "watch"
)

// The helper's descriptors.
const (
	socketFD = 3
	tableFD  = 4
)

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
	return table{host.table}.set(w.place, run)
}

// Started writes down who the leader is.
func (w *Ward) Started(trace proctree.Trace) {
	if w != nil {
		_ = table{host.table}.started(w.place, trace) // without it the marks tell
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
	err := insist(func() (err error) {
		socket, log, err = spawn(began.Add(startBound))
		return err
	})
	host.Lock()
	defer host.Unlock()
	host.start = nil
	if log != nil && host.runs == 0 { // those under way are better guarded without a log than not
		dismiss(socket)
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
	table, err := openTable()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		return nil, nil, err
	}
	err = launch(theirs, table, until)
	theirs.Close()
	if err == nil {
		log, err = awaitHello(ours, until)
	}
	if err != nil {
		dismiss(ours)
		return nil, nil, err
	}
	return ours, log, nil
}

// dismiss closes the socket of a helper that may come late, and must not take us for dead.
func dismiss(socket *os.File) {
	_, _ = socket.Write([]byte(dismissal))
	socket.Close()
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

// launch starts the first stage and waits for its end.
func launch(socket, table *os.File, until time.Time) error {
	self, err := procfs.ReadStat(os.Getpid())
	if err != nil {
		return err
	}
	attr, _ := sys.NewSession(nil)
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{helperName}, Dir: "/",
		Env:         append(environ(), fmt.Sprintf("%s=%s:%d:%d", variable, stagePart, os.Getpid(), self.StartTime)),
		ExtraFiles:  []*os.File{socket, table},
		SysProcAttr: attr,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case err := <-done:
		if errors.Is(err, syscall.ECHILD) {
			return nil // the program ignores SIGCHLD, or waits for all children; the hello tells the rest
		}
		return err
	case <-late.C:
		_ = cmd.Process.Kill()
		return errSlow
	}
}

var (
	errSlow  = errors.New("the guard takes too long to start")
	errNoOne = errors.New("the guard died when it was started: is guard.Init called first in main?")
)

// environ is our environment without what makes a copy the helper.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return len(entry) > len(variable) && entry[:len(variable)+1] == variable+"="
	})
}

// hello is what the helper says once it watches, followed by what is wrong with its log, and dismissal what it is told
// by a program that lives and has no use for it.
const (
	hello     = "+"
	dismissal = "-"

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

// parse reads the variable.
func parse(text string) (stage string, pid int, start uint64, ok bool) {
	fields := strings.Split(text, ":")
	if len(fields) != 3 {
		return "", 0, 0, false
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil || pid <= 0 {
		return "", 0, 0, false
	}
	start, err = strconv.ParseUint(fields[2], 10, 64)
	return fields[0], pid, start, err == nil
}
