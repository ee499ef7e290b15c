package job

import (
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// A Usage is what a job uses.
type Usage struct {
	Processes int `json:"-"` // that live
	// CPU is the processor time, user and system, of those that live and of the children that they have waited
	// for; once the job has ended, that of its first process. It is at least so much, as safeexec.UsageSeen has it: an
	// orphan that has ended is lost.
	CPU time.Duration `json:"cpu"`
	// Memory is what they have in memory now, in bytes. What several share counts for each.
	Memory int64 `json:"-"`
	// Peak is the most that the first process, or a child that it has waited for, had in memory, in bytes. It is
	// known once the program that started the job has seen that one end, and if it is by more than an eighth above
	// that program's own, see safeexec.Usage; 0 is unknown.
	Peak int64 `json:"peak"`
}

// Usage looks at what the processes of the job use. For a job that has ended it is what its first
// process has used, as far as a program of ours has reaped that, and zero otherwise.
func (j *Job) Usage() (Usage, error) {
	r, err := read(j.dir())
	if err != nil {
		return Usage{}, wrap("look at", j.name, err)
	}
	var u Usage
	if r.Used != nil {
		u = *r.Used
	}
	fit, err := j.store.fits(r)
	if err != nil || fit != Running || r.Phase == phaseEnded {
		return u, wrap("look at", j.name, err)
	}
	members, err := census(r.Trace)
	if err != nil {
		return u, wrap("look at", j.name, err)
	}
	for _, m := range members {
		used, err := procfs.ReadUsage(m.PID)
		if err != nil || used.StartTime != m.Start {
			continue // it has ended
		}
		u.Processes++
		u.CPU += procfs.Ticks(used.CPU())
		u.Memory += int64(used.Pages) * int64(os.Getpagesize())
	}
	return u, nil
}

// usageOf is what a child of ours has used; nil if that is not known.
func usageOf(state *os.ProcessState) *Usage {
	if state == nil {
		return nil
	}
	return &Usage{CPU: state.UserTime() + state.SystemTime(), Peak: usage.PeakOf(state)}
}
