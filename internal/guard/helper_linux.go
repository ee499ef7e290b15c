package guard

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/reexec"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Init makes this process the helper if it was started to be one, and then does not return. Otherwise the program
// can be guarded from now on.
func Init(log Log) {
	copied := reexec.Became(variable, helperName)
	if copied == nil {
		ready.Store(true)
		return
	}
	if len(copied.Files) != 1 {
		os.Exit(1) //nolint:forbidigo // a program of its own
	}
	h := helper{
		pid: copied.PID, start: copied.Start, socket: copied.Socket, log: log, table: table{copied.Files[0]},
		closed: make(chan struct{}),
	}
	if err := h.run(); err != nil {
		h.logAll([]Ended{{Host: h.pid, Err: err}})
		os.Exit(1) //nolint:forbidigo // a program of its own
	}
	os.Exit(0) //nolint:forbidigo // a program of its own
}

// A helper watches a program.
type helper struct {
	pid    int
	start  uint64
	socket *os.File
	log    Log
	table  table

	closed    chan struct{} // once no process has the program's end of the socket
	dismissed bool          // once it is closed: the program lives, and has no use for us
}

func (h *helper) run() error {
	runtime.GOMAXPROCS(1)
	go func() {
		defer close(h.closed)
		var said [1]byte
		for {
			n, err := h.socket.Read(said[:])
			h.dismissed = h.dismissed || n > 0
			if err != nil && !errors.Is(err, syscall.ECONNRESET) { // which says that the hello was not read
				return
			}
		}
	}()
	fd, gone := h.hold()
	if _, err := h.socket.Write(append([]byte(hello), problemOf(h.log.check())...)); err != nil {
		<-h.closed
	} else if !gone {
		h.await(fd)
	}
	select {
	case <-h.closed:
		if h.dismissed {
			return nil
		}
	default:
	}
	return h.endAll()
}

// hold returns a pidfd of the program, -1 where there are none, before Linux 5.3: then the socket tells of its end.
func (h *helper) hold() (fd int, gone bool) {
	fd, err := sys.PidfdOpen(h.pid)
	if err != nil {
		return -1, sys.Gone(err)
	}
	// The number may be another's, if the program was that quick to die.
	st, err := procfs.ReadStatNoComm(h.pid)
	if err == nil && st.StartTime != h.start {
		sys.Close(fd)
		return -1, true
	}
	return fd, false
}

// await returns once the program is gone.
func (h *helper) await(pidfd int) {
	if pidfd < 0 {
		<-h.closed
		return
	}
	defer sys.Close(pidfd)
	p, err := poll.New()
	if err != nil || p.SetsNonblock() || p.Add(pidfd, poll.Read, 0) != nil {
		<-h.closed
		return
	}
	defer p.Close()
	go func() {
		<-h.closed
		p.Wake()
	}()
	for {
		events, err := p.Wait(time.Time{})
		if err != nil {
			<-h.closed
		}
		select {
		case <-h.closed:
			return
		default:
		}
		if len(events) > 0 {
			return
		}
	}
}

// lateBound is how long after the program's end a child of it may take to execute.
const lateBound = 10 * time.Second

// endAll ends what the table holds, all at once, and then logs what it did: the reader of the log may be stuck.
func (h *helper) endAll() error {
	runs, err := h.table.read()
	proctree.Share(len(runs))
	runtime.GOMAXPROCS(runtime.NumCPU()) // it slept until now, and then one processor was enough
	var all sync.WaitGroup
	var mu sync.Mutex
	var ended []Ended
	for _, run := range runs {
		all.Go(func() {
			began := time.Now()
			did := Ended{Host: h.pid, Program: run.Program, PID: run.Trace.PID}
			did.end(run.Run)
			if !run.begun { // it was about to be started, and may be by now
				h.awaitClosed()
				did.Survivors = nil
				did.end(run.Run)
			}
			did.Took = time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, did)
		})
	}
	all.Wait()
	h.logAll(ended)
	return err
}

// awaitClosed waits until every child of the program has executed its program.
func (h *helper) awaitClosed() {
	late := time.NewTimer(lateBound)
	defer late.Stop()
	select {
	case <-h.closed:
	case <-late.C:
	}
}

// logAll writes down what there was to do.
func (h *helper) logAll(ended []Ended) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, did := range ended {
			if len(did.Killed) > 0 || len(did.Survivors) > 0 || did.Err != nil {
				h.log.Write(did)
			}
		}
	}()
	late := time.NewTimer(logBound)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}
