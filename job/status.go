package job

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A State is what can be said of a job.
type State string

// The states.
const (
	Running   State = "running"   // some process of it lives
	Ended     State = "ended"     // none does, and a program that kept it saw the end
	Gone      State = "gone"      // none does, and no program saw the end: the exit status may be unknown
	Elsewhere State = "elsewhere" // it was started in another namespace of PIDs or time, and cannot be told
	// Half says that the program that was starting it was killed meanwhile: it runs, and
	// [Store.Adopt] ends it.
	Half State = "half started"
)

// A Reason is why a job was ended by this package; empty if it was not.
type Reason string

// The reasons.
const (
	ByItself    Reason = ""
	ByStop      Reason = "stopped"
	ByTimeout   Reason = "timed out"
	ByWatchdog  Reason = "watchdog"
	ByUnready   Reason = "not ready"
	ByHalfStart Reason = "half started"
)

// An Exit is how the first process ended.
type Exit struct {
	Code   int            `json:"code"`   // -1 if a signal ended it
	Signal syscall.Signal `json:"signal"` // 0 if none did
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

func exitOf(ws syscall.WaitStatus) *Exit {
	if ws.Signaled() {
		return &Exit{Code: -1, Signal: ws.Signal()}
	}
	return &Exit{Code: ws.ExitStatus()}
}

func exitOfState(state *os.ProcessState) *Exit {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return nil
	}
	return exitOf(ws)
}

// A Status is what a job was like when it was asked.
type Status struct {
	Name    string
	Run     int // counts its starts
	State   State
	PID     int  // of the first process
	First   bool // that one lives; without it the job runs on as long as any process of its tree lives
	Started time.Time
	Ready   bool
	Text    string // STATUS= of sd_notify(3)
	// Exit is how the first process ended; nil if it has not or if that is unknown.
	Exit   *Exit
	Ended  time.Time // zero if that was not seen
	Reason Reason
	Kept   bool // by a program that lives: it watches the timeout and bounds the log
}

// String is one line for people.
func (s Status) String() string {
	text := fmt.Sprintf("%s: %s", s.Name, s.State)
	switch {
	case s.State == Running && s.First:
		text += fmt.Sprintf(", PID %d", s.PID)
	case s.Exit != nil:
		text += ", " + s.Exit.String()
	case s.State == Ended || s.State == Gone:
		text += ", status unknown"
	}
	if s.Reason != ByItself {
		text += ", " + string(s.Reason)
	}
	if s.Text != "" {
		text += fmt.Sprintf(" (%q)", s.Text)
	}
	return text
}

// Status looks at the job. The error is [ErrNoJob], [ErrRecord] or [safeexec.ErrTreeUnseen].
func (j *Job) Status() (Status, error) {
	r, err := read(j.dir())
	if err != nil {
		return Status{Name: j.name}, wrap("look at", j.name, err)
	}
	s, err := j.statusOf(r)
	return s, wrap("look at", j.name, err)
}

func (j *Job) statusOf(r *record) (Status, error) {
	s := Status{
		Name: r.Name, Run: r.Run, State: Ended, PID: r.Trace.PID, Started: r.Started, Ready: r.Ready, Text: r.Text,
		Exit: r.Exit, Ended: r.Ended, Reason: r.Reason, Kept: isKept(j.dir(), r.Run),
	}
	if r.Phase == phaseEnded {
		return s, nil
	}
	fit, err := j.store.fits(r)
	switch {
	case err != nil:
		return s, err
	case fit == Elsewhere, fit == Gone:
		s.State = fit
		return s, nil
	case r.Trace.PID != 0 && proctree.Living(r.Trace.PID, r.Trace.Start):
		s.State, s.First = Running, true
		return s, nil
	}
	members, err := census(r.Trace)
	switch {
	case errors.Is(err, safeexec.ErrProtected): // this very process is in there
		s.State = Running
		return s, nil
	case err != nil:
		return s, err
	case len(members) == 0:
		s.State = Gone
	case r.Phase == phaseStarting:
		s.State = Half
	default:
		s.State = Running
	}
	return s, nil
}

// fits says whether the numbers of a record can mean anything here: Gone and Elsewhere if not.
func (s *Store) fits(r *record) (State, error) {
	switch {
	case r.Boot != s.place.boot:
		return Gone, nil
	case r.Namespace != s.place.namespace:
		return Elsewhere, nil
	case proctree.Foreign():
		return Elsewhere, safeexec.ErrTreeUnseen
	}
	return Running, nil
}

// census lists the living processes of a tree.
func census(tr proctree.Trace) ([]proctree.Process, error) {
	var tree proctree.Tree
	if err := recall(&tree, tr, lookTime); err != nil {
		return nil, err
	}
	defer tree.Forget()
	members, sure := see(&tree, lookTime)
	list := make([]proctree.Process, 0, len(members))
	for _, m := range members {
		list = append(list, m.Process)
	}
	if len(list) == 0 && !sure {
		return nil, safeexec.ErrTreeUnseen
	}
	return list, nil
}

// lookTime is what a look may take. It takes some milliseconds, and on a machine that is very busy
// a thousand times that; one that is cut short proves nothing.
const lookTime = 10 * time.Second

// see looks at a tree until a look proves its members, within that time. If others use up the PIDs
// meanwhile, even a complete look proves nothing.
func see(tree *proctree.Tree, within time.Duration) (members []*proctree.Member, sure bool) {
	until := time.Now().Add(within)
	tree.Until(until)
	for pause := time.Millisecond; ; pause = min(2*pause, lastPause) {
		members, sure = tree.Live()
		left := time.Until(until)
		if len(members) > 0 || sure || left <= 0 {
			return members, sure
		}
		time.Sleep(min(pause, left))
	}
}

// recall looks for a tree. The looks from then on are to be over by then, too.
func recall(tree *proctree.Tree, tr proctree.Trace, within time.Duration) error {
	err := tree.Recall(tr, time.Now().Add(within))
	if _, ok := errors.AsType[proctree.ProtectedError](err); ok {
		return fmt.Errorf("%w: %w", safeexec.ErrProtected, err)
	}
	return err
}
