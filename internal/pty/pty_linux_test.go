package pty

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

func TestTyping(t *testing.T) {
	for typed, want := range map[string]string{
		"": "\x04", "line\n": "line\n\x04", "line\r": "line\r\x04", "part": "part\x04\x04", "a\nb": "a\nb\x04\x04",
	} {
		for _, wrap := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.DataErrReader, iotest.OneByteReader, iotest.HalfReader,
		} {
			for _, read := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.OneByteReader,
			} {
				got, err := io.ReadAll(read(Typing(wrap(strings.NewReader(typed)))))
				require.NoError(t, err)
				assert.Equal(t, want, string(got))
			}
		}
	}
	broken := errors.New("broken")
	got, err := io.ReadAll(Typing(iotest.ErrReader(broken)))
	assert.ErrorIs(t, err, broken)
	assert.Equal(t, "\x04", string(got))
	n, err := Typing(strings.NewReader("x")).Read(nil)
	assert.Zero(t, n)
	assert.NoError(t, err)
}

// steady repeats a call that a busy machine makes look as if a process held the terminal.
func steady(t *testing.T, call func() (int, error)) (n int, err error) {
	t.Helper()
	testproc.Wait(t, func() bool {
		n, err = call()
		return !errors.Is(err, drain.ErrHeld)
	})
	return n, err
}

// The end of the output comes once no process has the slave open, ours included, and not before.
func TestTerminal(t *testing.T) {
	testproc.NoLeaks(t)
	term, slave, err := Open(Size{24, 80}, nil)
	if err != nil {
		t.Skip(err)
	}
	var out, in pipe.End
	term.Output(&out)
	require.NoError(t, term.Input(&in))
	defer out.Close()
	buf := make([]byte, 100)

	_, err = steady(t, func() (int, error) { return out.Read(buf) })
	assert.ErrorIs(t, err, syscall.EAGAIN)
	unread, err := out.Unread()
	require.NoError(t, err)
	assert.Zero(t, unread)
	_, err = slave.WriteString("to the end\n")
	require.NoError(t, err)
	slave.Close()
	assert.False(t, out.Hangup(), "ours is open")
	assert.True(t, out.Readable())
	unread, err = out.Unread()
	require.NoError(t, err)
	assert.NotZero(t, unread)
	assert.False(t, out.Grow())
	assert.NotZero(t, out.Inode())
	_, err = out.Waiter()
	assert.Error(t, err)
	_, err = steady(t, func() (int, error) { return 0, out.Resize(50, 132) })
	require.NoError(t, err)

	released := term.Release(nil)
	testproc.Wait(t, func() bool { return released.Done() && term.Release(nil).Done() })
	assert.True(t, out.Hangup())
	var shown []byte
	for n := 1; n > 0; shown = append(shown, buf[:n]...) { // the kernel may bring it in parts
		n, err = steady(t, func() (int, error) { return out.Read(buf) })
		require.NoError(t, err)
	}
	assert.Equal(t, "to the end\r\n", string(shown))
	_, err = steady(t, func() (int, error) { return in.Write([]byte("x")) })
	if err != nil { // Linux 6.18 takes it, and nobody reads it
		assert.ErrorIs(t, err, syscall.EPIPE)
	}
	in.Close()
	out.Close()
	testproc.Wait(t, func() bool { return !in.Held() && !out.Held() })
	assert.Error(t, out.Resize(50, 132))
}

// What no command has taken is closed.
func TestTerminalOfNobody(t *testing.T) {
	testproc.NoLeaks(t)
	term, slave, err := Open(Size{24, 80}, nil)
	if err != nil {
		t.Skip(err)
	}
	slave.Close()
	released := term.Release(nil)
	testproc.Wait(t, released.Done)
}

func TestAttr(t *testing.T) {
	var attr syscall.SysProcAttr
	require.NoError(t, Attr(&attr, 1))
	assert.Equal(t, syscall.SysProcAttr{Setctty: true, Ctty: 1}, attr)
	for _, attr := range []syscall.SysProcAttr{{Setctty: true}, {Noctty: true}, {Foreground: true}} {
		assert.Error(t, Attr(&attr, 1))
	}
}
