// Package time is the clock of a simulated machine.
package time

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/model/testdata/kernel"
)

const (
	Nanosecond  = time.Nanosecond
	Microsecond = time.Microsecond
	Millisecond = time.Millisecond
	Second      = time.Second
	Minute      = time.Minute
	Hour        = time.Hour
)

type (
	Time     = time.Time
	Duration = time.Duration
)

func Now() Time {
	if kernel.K == nil {
		return kernel.Epoch
	}
	return kernel.K.Now()
}

func Since(t Time) Duration { return Now().Sub(t) }
func Until(t Time) Duration { return t.Sub(Now()) }
func Sleep(d Duration)      { kernel.K.Advance(d) }

// A Timer never goes off.
type Timer struct{ C <-chan Time }

func NewTimer(Duration) *Timer          { return &Timer{} }
func AfterFunc(Duration, func()) *Timer { return &Timer{} }
func (*Timer) Stop() bool               { return true }
func (*Timer) Reset(Duration) bool      { return true }
