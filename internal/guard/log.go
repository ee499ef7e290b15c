package guard

import (
	"encoding/json"
	"errors"
	"io/fs"
	"syscall"
	"time"
)

// A Log is where a helper says what it did.
type Log struct {
	Check func() error // whether it can be written to; asked before there is anything to write
	Write func(Ended)
}

// logBound is how long each of the two may take.
const logBound = 5 * time.Second

var errLogSlow = errors.New("the log does not answer")

// check is Check within the bound.
func (l Log) check() error {
	done := make(chan error, 1)
	go func() { done <- l.Check() }()
	late := time.NewTimer(logBound)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return errLogSlow
	}
}

// A problem is an error on its way from the helper to the program.
type problem struct {
	Op    string        `json:"op,omitempty"` // of an *fs.PathError
	Path  string        `json:"path,omitempty"`
	Errno syscall.Errno `json:"errno,omitempty"`
	Text  string        `json:"text,omitempty"` // of any other
}

// problemOf returns what follows the hello: nothing for nil.
func problemOf(err error) []byte {
	if err == nil {
		return nil
	}
	p := problem{Text: err.Error()}
	var errno syscall.Errno
	if path, ok := errors.AsType[*fs.PathError](err); ok && errors.As(path.Err, &errno) {
		p = problem{Op: path.Op, Path: path.Path, Errno: errno}
	}
	text, err := json.Marshal(p)
	if err != nil || len(text) > maxHello-len(hello) {
		return []byte("{}")
	}
	return text
}

// problemIn is the other direction.
func problemIn(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var p problem
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.Errno != 0 {
		return &fs.PathError{Op: p.Op, Path: p.Path, Err: p.Errno}
	}
	return errors.New("the guard's log: " + p.Text)
}
