package guard

import (
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Init makes this process the helper if it was started to be one, and then does not return. Otherwise the program
// can be guarded from now on. The helper calls log for each tree that it has ended.
func Init(log func(Ended)) {
	text, set := os.LookupEnv(variable)
	stage, pid, start, ok := parse(text)
	if set {
		_ = os.Unsetenv(variable) // for what the program starts
	}
	if !ok || !sys.IsPairedSocket(socketFD) {
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
			log(Ended{Host: pid, Err: err})
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
	if found := fdtable.Seal(); found.Err != nil {
		return found.Err
	}
	_, err = os.StartProcess("/proc/self/exe", []string{helperName}, &os.ProcAttr{
		Dir:   "/",
		Env:   append(environ(), variable+"="+stageWatch+text[len(stagePart):]),
		Files: []*os.File{null, null, null, os.NewFile(socketFD, "socket"), os.NewFile(tableFD, helperName)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// A helper watches a program.
type helper struct {
	pid   int
	start uint64
	log   func(Ended)
	table table

	closed chan struct{} // once no process has the program's end of the socket
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
		var none [1]byte
		_, _ = socket.Read(none[:])
	}()
	fd, gone := h.hold()
	if _, err := socket.Write([]byte(hello)); err == nil && !gone {
		h.await(fd)
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

// endAll ends what the table holds, all at once.
func (h *helper) endAll() error {
	runs, err := h.table.read()
	h.endEach(runs)
	var late []entry
	for _, run := range runs {
		if !run.begun {
			late = append(late, run)
		}
	}
	if len(late) == 0 {
		return err
	}
	select {
	case <-h.closed: // before these were looked for, most likely, and then nobody is left
	case <-time.After(lateBound):
	}
	h.endEach(late)
	return err
}

func (h *helper) endEach(runs []entry) {
	var all sync.WaitGroup
	for _, run := range runs {
		all.Go(func() {
			began := time.Now()
			e := ending{ladder: run.Ladder, cgroup: run.Cgroup}
			err := e.end(run.Trace)
			did := Ended{
				Host: h.pid, Program: run.Program, PID: run.Trace.PID,
				Killed: e.killed(), Survivors: e.survivors, Took: time.Since(began), Err: err,
			}
			if len(did.Killed) > 0 || len(did.Survivors) > 0 || err != nil {
				h.log(did)
			}
		})
	}
	all.Wait()
}
