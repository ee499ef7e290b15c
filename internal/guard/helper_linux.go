package guard

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Init makes this process the helper if it was started to be one, and then does not return. Otherwise the program
// can be guarded from now on.
func Init(log Log) {
	text, set := os.LookupEnv(variable)
	stage, pid, start, ok := parse(text)
	if set {
		_ = os.Unsetenv(variable) // for what the program starts
	}
	// Who may set the variable and open descriptors must not have a privileged program do as the table says.
	if !ok || stage != stagePart && stage != stageWatch || sys.Privileges() || !sys.IsPairOf(socketFD, pid) {
		ready.Store(true)
		return
	}
	switch stage {
	case stagePart:
		if err := part(text); err != nil {
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
	case stageWatch:
		h := helper{pid: pid, start: start, log: log, table: table{os.NewFile(tableFD, helperName)}}
		if err := h.run(); err != nil {
			h.logAll([]Ended{{Host: pid, Err: err}})
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
	}
	os.Exit(0) //nolint:forbidigo // a program of its own
}

// part starts the second stage. Only what that needs is left open in it.
func part(text string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if sys.MarkRange(socketFD, -1) != nil {
		if found := fdtable.Seal(); found.Err != nil {
			return found.Err
		}
	}
	files := []*os.File{null, null, null, os.NewFile(socketFD, "socket"), os.NewFile(tableFD, helperName)}
	return insist(func() error {
		_, err := os.StartProcess("/proc/self/exe", []string{helperName}, &os.ProcAttr{
			Dir:   "/",
			Env:   append(environ(), variable+"="+stageWatch+text[len(stagePart):]),
			Files: files,
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
		return err
	})
}

// A helper watches a program.
type helper struct {
	pid   int
	start uint64
	log   Log
	table table

	closed    chan struct{} // once no process has the program's end of the socket
	dismissed bool          // once it is closed: the program lives, and has no use for us
}

// asks are the signals that ask a process to end. Only the program's end ends the helper, or SIGKILL.
var asks = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM,
}

func (h *helper) run() error {
	signal.Ignore(asks...)
	_ = os.WriteFile("/proc/self/comm", []byte(helperName), 0) // for ps(1), and not for killall(1) of the program
	runtime.GOMAXPROCS(1)
	socket := os.NewFile(socketFD, "socket")
	h.closed = make(chan struct{})
	go func() {
		defer close(h.closed)
		var said [len(dismissal)]byte
		for {
			n, err := socket.Read(said[:])
			h.dismissed = h.dismissed || n > 0
			if err != nil && !errors.Is(err, syscall.ECONNRESET) { // which says that the hello was not read
				return
			}
		}
	}()
	fd, gone := h.hold()
	if _, err := socket.Write(append([]byte(hello), problemOf(h.log.check())...)); err != nil {
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

// endAll ends what the table holds, all at once, and then says what it did: who reads the log may be stuck.
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
