package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// A Job is one command for one machine.
type Job struct {
	ID      string        `json:"id"`
	Label   string        `json:"label"` // of the machines that may run it: linux.gpu
	Args    []string      `json:"args"`
	Dir     string        `json:"dir,omitempty"`
	Timeout time.Duration `json:"timeout"`
}

// An entry is what the store has of a job. Seq is its place in the queue; 0 until it is known to be there.
type entry struct {
	Job
	Seq uint64 `json:"seq,omitempty"`
}

// A State is how a job ended.
type State string

// States of results.
const (
	Succeeded State = "succeeded" // exit status 0
	Failed    State = "failed"    // any other end, Text says which
	Canceled  State = "canceled"
	Lost      State = "lost" // too many hosts died of it
)

// A Result is the accepted end of a job: the first that was written.
type Result struct {
	ID      string    `json:"id"`
	Host    string    `json:"host"`
	Attempt uint64    `json:"attempt"` // how often the queue had delivered it
	State   State     `json:"state"`
	Code    int       `json:"code"` // as a shell has it; -1 without
	Text    string    `json:"text"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Log     string    `json:"log,omitempty"` // the object; none if there was no output
	Bytes   int64     `json:"bytes"`         // of output
	Dropped int64     `json:"dropped,omitempty"`
}

// An attempt says where a job runs.
type attempt struct {
	Host    string    `json:"host"`
	Attempt uint64    `json:"attempt"`
	Began   time.Time `json:"began"`
}

// A Node is a machine, as its last heartbeat has it.
type Node struct {
	Host     string         `json:"host"`
	Slots    map[string]int `json:"slots"` // by label
	Running  int            `json:"running"`
	Draining bool           `json:"draining"`
	PID      int            `json:"pid"`
	Time     time.Time      `json:"time"`
}

// Errors of a submission.
var (
	ErrID       = errors.New("an id is 1 to 64 letters, digits, - and _")
	ErrLabel    = errors.New("a label is words of letters, digits and - with dots between")
	ErrTimeout  = errors.New("the timeout is not within the limit of the fleet")
	ErrCommand  = errors.New("there is no command")
	ErrConflict = errors.New("the id is that of another job")
)

var (
	ids    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	labels = regexp.MustCompile(`^[A-Za-z0-9-]{1,32}(\.[A-Za-z0-9-]{1,32}){0,3}$`)
)

func (j Job) check(limit time.Duration) error {
	switch {
	case !ids.MatchString(j.ID):
		return fmt.Errorf("id %q: %w", j.ID, ErrID)
	case !labels.MatchString(j.Label):
		return fmt.Errorf("label %q: %w", j.Label, ErrLabel)
	case len(j.Args) == 0 || j.Args[0] == "":
		return ErrCommand
	case j.Timeout <= 0 || j.Timeout > limit:
		return fmt.Errorf("timeout %s, limit %s: %w", j.Timeout, limit, ErrTimeout)
	}
	return nil
}
