package guard

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProblem(t *testing.T) {
	assert.NoError(t, problemIn(problemOf(nil)))
	err := problemIn(problemOf(&fs.PathError{Op: "open", Path: "/no/\xff\"log", Err: syscall.EACCES}))
	path, ok := errors.AsType[*fs.PathError](err)
	require.True(t, ok)
	assert.ErrorIs(t, path, fs.ErrPermission)
	assert.ErrorContains(t, problemIn(problemOf(errors.New("else"))), "else")
	assert.Error(t, problemIn(problemOf(errors.New(strings.Repeat("x", maxHello)))), "too long to be told")
	assert.Error(t, problemIn([]byte("{")))
}

func TestLogDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		l := Log{Check: func() error { <-stuck; return nil }}
		assert.ErrorIs(t, l.check(), errLogSlow)
		close(stuck)
	})
}
