package reexec

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestInsist(t *testing.T) {
	other := errors.New("other")
	for name, c := range map[string]struct {
		errs  []error
		want  error
		calls int
	}{
		"at once":         {[]error{nil}, nil, 1},
		"after a want":    {[]error{syscall.EMFILE, os.NewSyscallError("fork", syscall.EAGAIN), nil}, nil, 3},
		"another":         {[]error{other, nil}, other, 1},
		"another, second": {[]error{syscall.ENOMEM, other, nil}, other, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			err := Insist(func() error { calls++; return c.errs[calls-1] })
			assert.Equal(t, c.want, err, name)
			assert.Equal(t, c.calls, calls, name)
		})
	}
}

func TestInsistEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		assert.ErrorIs(t, Insist(func() error { return syscall.ENFILE }), syscall.ENFILE)
		assert.Less(t, time.Since(began), insistBound+2*lastPause)
	})
}
