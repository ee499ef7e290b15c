package sys

import "time"

// A Usage is what processes have used.
type Usage struct {
	User, System  time.Duration
	Peak          int64 // the most that one of them had in memory, in bytes
	Read, Written int64 // bytes of storage
}

// Add adds what others have used.
func (u *Usage) Add(others Usage) {
	u.User += others.User
	u.System += others.System
	u.Peak = max(u.Peak, others.Peak)
	u.Read += others.Read
	u.Written += others.Written
}

// CPU returns the processor time.
func (u *Usage) CPU() time.Duration { return u.User + u.System }
