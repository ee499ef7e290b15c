package safeexec

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/redact"
)

// ReportBound is how long it takes at most to find out why a tree is stuck, whatever its size. A run
// that is ended by force waits for it before the first signal.
const ReportBound = 50 * time.Millisecond

// A Report says what the processes of a tree are blocked in, and which waits for which. It was true at
// one moment, within a few milliseconds. Taking it needs no privilege: it counts the processes that it
// may not read, and never takes them for absent.
//
// Verdict and Chain hold no arguments, no environment and no names of files, which may all be secret.
// The calls in Threads, and with them the text of [Report.String], name files that are open. Command
// lines are there only on request, see [WithRedact].
type Report struct {
	PID     int // what was asked about: of a run its leader, or the oldest that BackgroundWait waited for
	Taken   time.Time
	Took    time.Duration
	Verdict string // the chain in one line

	// Found says that the end of the chain is a cause: something that is waited for, and not a
	// process that could not be read, or whose threads only wait for each other in ways that are not
	// visible from outside.
	Found bool
	// Deadlock says that processes or threads wait for each other and for nothing else.
	Deadlock bool
	Chain    []ReportLink // each waits for the next, from PID to the end

	// Processes are the one asked about, its tree, those that hold a pipe of the run, and those that
	// the chain leads to, in this order.
	Processes []ReportProcess

	Unreadable int // processes whose system call may not be read
	Omitted    int // processes of the tree for which there was no time
	// Unseen counts processes whose descriptors may not be read: they may have the other end of a pipe that seems
	// to have none. The tree's own descriptors are read only if a process waits for one. Partial says that there was
	// no time for all, as when many runs end together, which search one after the other.
	Unseen  int
	Partial bool
}

// A ReportLink is one step of the chain.
type ReportLink struct {
	PID  int
	TID  int // of the thread that waits; PID for the first
	Name string
	Text string // what it does
}

// A ReportRole says why a process is in a report.
type ReportRole string

// The roles.
const (
	RoleRoot     ReportRole = "root"     // it was asked about, or leads the run
	RoleMember   ReportRole = "member"   // of its tree
	RoleHolder   ReportRole = "holder"   // outside of the tree, holds an output pipe of the run
	RoleOutsider ReportRole = "outsider" // outside the tree, and a process of the tree waits for it
)

// A ReportProcess is one process of a report.
type ReportProcess struct {
	ProcessInfo
	Role    ReportRole
	Command []string // only with WithRedact; nil where there is none or it could not be read

	PPID, PGID, SID int
	State           string         // one letter, as in proc_pid_stat(5)
	StopSignal      syscall.Signal // that stopped the leader of a run; 0 if unknown
	Tracer          int            // PID; 0 for none
	CPU             time.Duration  // processor time since its start
	Cores           float64        // of processor time during the report; -1 if unknown
	PipeFDs         []int          // of one outside of the tree: its descriptors that are output pipes of the run
	ThreadCount     int
	Threads         []ReportThread // that were looked at
	Unreadable      bool           // its system calls may not be read
}

// A ReportThread is one thread of a process.
type ReportThread struct {
	TID   int
	Name  string
	State string
	Call  string        // system call by name; empty if it is in none or that is not known
	Text  string        // the call with its descriptors resolved
	Idle  time.Duration // since it last ran; -1 if unknown. Known of the threads of the chain
	Wchan string        // the kernel's function, where the call is not known

	FDs      []ReportFD    // that the call is blocked on
	Children []int         // that it waits for
	Holders  []int         // of the lock that it waits for
	Left     time.Duration // until it goes on by itself at the latest; -1 for no bound or an unknown one
}

// A ReportFD is a descriptor that a call is blocked on.
type ReportFD struct {
	FD            int
	Kind          string // pipe, FIFO, tcp, udp, unix, file, terminal, device, eventpoll, pidfd …
	Path          string // of a file
	Local, Remote string // addresses of a socket
	State         string // of a socket
	Filled, Size  int    // bytes in a pipe and its capacity; -1 if unknown
	Unread        int    // bytes in a socket's queues; -1 if unknown
	Unsent        int
	Silent        time.Duration // since TCP received data; -1 if unknown
	Ends          []Holder      // processes that have the other end
	EndsKnown     bool          // and no other process has it
}

// explainBound is how long a report may take that delays no signal.
const explainBound = time.Second

// Explain says why a process, and what it waits for, does not go on. It may be any process that this
// one may look at, see ptrace(2), PTRACE_MODE_ATTACH; it is not touched. It takes milliseconds, on a
// large machine up to a second, and ends with ctx. Of the options, [WithRedact] counts.
//
// The error is [os.ErrProcessDone] if there is no such process, [ErrTimeout] if nothing of it could be
// read in that time, [ErrUnsupported] except on Linux.
func Explain(ctx context.Context, pid int, opts ...Option) (Report, error) {
	if !diagnose.Supported {
		return Report{}, ErrUnsupported
	}
	var cfg config
	bundle(opts).apply(&cfg)
	if pid <= 0 {
		return Report{}, os.ErrProcessDone
	}
	if err := ctx.Err(); err != nil {
		return Report{}, err // not by luck: a small tree is looked at before anybody asks
	}
	report, err := take(ctx, diagnose.Target{PID: pid, Commands: cfg.redact != nil}, &cfg)
	if err == nil && (len(report.Processes) == 0 || report.Processes[0].State == "") {
		err = os.ErrProcessDone
		if engine.Inspect(pid).Alive() {
			err = ErrTimeout
		}
	}
	return report, err
}

// Report says why the run does not go on, while it runs. It may be called from any goroutine. The
// error is [os.ErrProcessDone] once the run has ended, [ErrUnsupported] except on Linux.
func (p *Process) Report() (Report, error) {
	if p.run.life.Actor != nil {
		return p.reportActor()
	}
	if !diagnose.Supported {
		return Report{}, ErrUnsupported
	}
	target := diagnose.Target{
		PID: p.PID(), Session: p.PID(), Child: true, Pipes: p.pipes, Commands: p.run.cfg.redact != nil,
	}
	report, err := take(context.Background(), target, &p.run.cfg)
	select {
	case <-p.done:
		return Report{}, os.ErrProcessDone // the number may have been another process's
	default:
		return report, err
	}
}

// take takes a report while the caller waits.
func take(ctx context.Context, target diagnose.Target, cfg *config) (Report, error) {
	if engine.Foreign() {
		return Report{}, join(ErrTreeUnseen, engine.ErrForeign)
	}
	done := make(chan struct{})
	inquiry := diagnose.Begin(target, explainBound, func() { close(done) })
	late := time.NewTimer(explainBound)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	case <-ctx.Done():
		inquiry.Finish()
		return Report{}, ctx.Err()
	}
	snapshot := inquiry.Finish()
	report := newReport(target.PID, snapshot)
	return report, redactReport(ctx, &report, snapshot, cfg.redact)
}

// nameHolders puts the holders of the pipes into the report with all their descriptors, also where its
// bound passed before it came to them.
func (r *run) nameHolders() {
	report := r.result.Report
	if report == nil {
		return
	}
	for _, h := range r.result.Holders {
		i := slices.IndexFunc(report.Processes, func(p ReportProcess) bool { return p.PID == h.PID })
		if i < 0 {
			i = len(report.Processes)
			report.Processes = append(report.Processes, ReportProcess{ProcessInfo: h.ProcessInfo, Role: RoleHolder, Cores: -1})
		}
		p := &report.Processes[i]
		p.PipeFDs = append(p.PipeFDs, h.FDs...)
		slices.Sort(p.PipeFDs)
		p.PipeFDs = slices.Compact(p.PipeFDs)
	}
}

// newReport makes a report of what was found; of nothing, if the bound passed before anything was.
func newReport(pid int, s *diagnose.Snapshot) Report {
	if s == nil {
		verdict := fmt.Sprintf("%d could not be looked at in time", pid)
		return Report{PID: pid, Taken: time.Now(), Verdict: verdict, Partial: true}
	}
	r := Report{
		PID: pid, Taken: s.Taken, Took: s.Took, Verdict: s.Verdict, Found: s.Found, Deadlock: s.Deadlock,
		Unreadable: s.Unreadable, Omitted: s.Omitted, Unseen: s.Unseen, Partial: s.Partial,
	}
	for _, l := range s.Chain {
		r.Chain = append(r.Chain, ReportLink(l))
	}
	for i := range s.Processes {
		r.Processes = append(r.Processes, newReportProcess(&s.Processes[i]))
	}
	return r
}

var roles = [...]ReportRole{RoleRoot, RoleMember, RoleHolder, RoleOutsider}

func newReportProcess(p *diagnose.Process) ReportProcess {
	q := ReportProcess{
		ProcessInfo: ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name},
		Role:        roles[p.Role],
		PPID:        p.PPID, PGID: p.PGID, SID: p.SID,
		StopSignal: p.StopSignal, Tracer: p.Tracer, CPU: p.CPU, Cores: p.Cores, PipeFDs: p.PipeFDs,
		ThreadCount: p.ThreadCount, Unreadable: p.Unreadable,
	}
	if p.State != 0 {
		q.State = string(rune(p.State))
	}
	for i := range p.Threads {
		q.Threads = append(q.Threads, newReportThread(&p.Threads[i]))
	}
	return q
}

func newReportThread(t *diagnose.Thread) ReportThread {
	u := ReportThread{
		TID: t.TID, Name: t.Name, State: string(rune(t.State)), Call: t.Call.Name, Idle: t.Idle, Wchan: t.Call.Wchan,
		Children: t.Call.Children, Holders: t.Call.Holders, Left: t.Call.Left,
	}
	if u.Call != "" {
		u.Text = t.Call.Text()
	}
	for i := range t.Call.FDs {
		d := &t.Call.FDs[i]
		f := ReportFD{
			FD: d.FD, Kind: d.Kind, Path: d.Path, Local: d.Local, Remote: d.Remote, State: d.State,
			Filled: d.Filled, Size: d.Size, Unread: d.Unread, Unsent: d.Unsent, Silent: d.Silent, EndsKnown: d.EndsKnown,
		}
		for _, e := range d.Ends {
			f.addEnd(e)
		}
		u.FDs = append(u.FDs, f)
	}
	return u
}

// addEnd adds a descriptor to the process that it belongs to.
func (f *ReportFD) addEnd(e diagnose.End) {
	var fds []int
	if e.FD >= 0 {
		fds = []int{e.FD}
	}
	for i := range f.Ends {
		if h := &f.Ends[i]; h.PID == e.PID {
			h.FDs = append(h.FDs, fds...)
			return
		}
	}
	f.Ends = append(f.Ends, Holder{ProcessInfo: ProcessInfo{PID: e.PID, Name: e.Name}, FDs: fds})
}

// LogValue is the report in one line: the verdict, and what it could not know.
func (r Report) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("verdict", r.Verdict),
		slog.Bool("deadlock", r.Deadlock),
		slog.Bool("found", r.Found),
		slog.Int("processes", len(r.Processes)),
		slog.Int("unreadable", r.Unreadable),
		slog.Int("omitted", r.Omitted),
	)
}

// reportActor is Process.Report for an actor.
func (p *Process) reportActor() (Report, error) {
	select {
	case <-p.done:
		return Report{}, os.ErrProcessDone
	default:
	}
	if report, ok := p.run.life.Actor.Report().(*Report); ok && report != nil {
		return *report, nil
	}
	return Report{PID: p.PID(), Taken: time.Now()}, nil
}

// A PipeUse says which processes have a pipe open, and how full it is.
type PipeUse struct {
	Inode   uint64   // as in the pipe:[INODE] of /proc/PID/fd
	Readers []Holder // a process that has it open for both is in both lists
	Writers []Holder
	Filled  int // bytes not read yet; -1 if unknown
	Size    int // bytes that it can hold; -1 if unknown
	Unseen  int // processes whose descriptors may not be read: they may have it too
}

// ExplainPipe finds the processes that have a pipe open, by the number in the pipe:[INODE] of
// /proc/PID/fd. It looks at every process of the machine, until ctx is done. The error is that of ctx,
// or [ErrUnsupported] except on Linux.
func ExplainPipe(ctx context.Context, inode uint64) (PipeUse, error) {
	if !diagnose.Supported {
		return PipeUse{}, ErrUnsupported
	}
	found := diagnose.Pipe(inode, func() bool { return ctx.Err() != nil })
	return PipeUse{
		Inode: inode, Readers: byProcess(found.Readers), Writers: byProcess(found.Writers),
		Filled: found.Filled, Size: found.Size, Unseen: found.Unseen,
	}, ctx.Err()
}

// byProcess puts the descriptors of one process together.
func byProcess(ends []diagnose.End) []Holder {
	var f ReportFD
	for _, e := range ends {
		f.addEnd(e)
	}
	return f.Ends
}

// RedactSecrets is a function for [WithRedact]: it takes out of a command line what looks like a secret,
// and shows the rest.
//
// It replaces by "***" the values of options and assignments whose name speaks of a password, token,
// secret, key, credential, cookie or authorization; the password in a URL; what follows "Bearer" and
// "Basic"; and tokens of the forms that GitHub, GitLab, Slack, AWS, OpenAI and JSON Web Tokens have,
// wherever they stand. That is a guess: a secret that looks like anything else, such as a bare
// argument or "-pSECRET", is shown.
func RedactSecrets(command []string) []string { return redact.Secrets(command) }

// A RedactError says that the function of [WithRedact] failed: it panicked, ended its goroutine, or did
// not return within a second, for all command lines of a report together. Those that it had not returned
// by then are missing. A run that did not fail otherwise has no error for that, but Result.Command is nil.
type RedactError struct {
	// Panic is the value of the panic, nil if there was none. It may hold a command line, so the text of
	// the error does not.
	Panic any
	Stuck bool // it did not return, and a goroutine is left with it
}

func (e *RedactError) Error() string {
	switch {
	case e.Stuck:
		return fmt.Sprintf("safeexec: function of WithRedact does not return (waited %v)", redact.Bound)
	case e.Panic != nil:
		return fmt.Sprintf("safeexec: function of WithRedact panicked with a %T", e.Panic)
	}
	return "safeexec: function of WithRedact ended its goroutine"
}

// redactAll has f redact command lines.
func redactAll(ctx context.Context, f func([]string) []string, commands [][]string) ([][]string, error) {
	out, failure := redact.All(ctx, f, commands)
	if failure != nil {
		return out, &RedactError{Panic: failure.Panic, Stuck: failure.Stuck}
	}
	return out, nil
}

// redact fills in the command lines of a report that was made from s.
func redactReport(ctx context.Context, r *Report, s *diagnose.Snapshot, f func([]string) []string) error {
	if s == nil || f == nil {
		return nil
	}
	out, err := redactAll(ctx, f, commandsOf(s))
	for i := range out {
		r.Processes[i].Command = out[i]
	}
	return err
}

func commandsOf(s *diagnose.Snapshot) [][]string {
	commands := make([][]string, len(s.Processes))
	for i := range s.Processes {
		commands[i] = redact.Shortened(s.Processes[i].Command)
	}
	return commands
}

// redact fills in all command lines, once the tree has ended: until then nothing waits for the caller's
// function.
func (r *run) redact() {
	if end := r.life.Facts.End; end != nil {
		r.redactErr = end.Redact
	}
	if r.cfg.redact == nil {
		return
	}
	commands := [][]string{r.args}
	if s := r.life.Facts.Snapshot; s != nil {
		commands = append(commands, commandsOf(s)...)
	}
	out, err := redactAll(context.Background(), r.cfg.redact, commands)
	r.result.Command = out[0]
	for i, command := range out[1:] {
		r.result.Report.Processes[i].Command = command
	}
	r.redactErr = err
	if e, ok := err.(*RedactError); ok && e.Stuck { //nolint:errorlint // our own, not wrapped
		r.result.Abandoned = append(r.result.Abandoned, AbandonedRedact)
	}
	r.args, r.life.Facts.Snapshot = nil, nil
}
