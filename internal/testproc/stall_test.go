package testproc

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStalledWriter(t *testing.T) {
	w := NewStalledWriter()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, bytes.NewReader([]byte("kept")))
		done <- err
	}()
	<-w.Entered()
	assert.Empty(t, w.Bytes())
	assert.Empty(t, done)
	w.Release()
	w.Release()
	require.NoError(t, <-done)
	assert.Equal(t, "kept", string(w.Bytes()))
}

func TestStalledReader(t *testing.T) {
	r := NewStalledReader([]byte("given"))
	done := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(r)
		done <- string(data)
	}()
	<-r.Entered()
	assert.Equal(t, 5, r.Unread())
	assert.Empty(t, done)
	r.Release()
	assert.Equal(t, "given", <-done)
	assert.Zero(t, r.Unread())
}

func TestSlowWriter(t *testing.T) {
	turns := make(chan struct{})
	w := NewSlowWriter(func() { <-turns })
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Write([]byte("a"))
		w.Write([]byte("b"))
	}()
	turns <- struct{}{}
	turns <- struct{}{}
	<-done
	assert.Equal(t, "ab", string(w.Bytes()))
}
