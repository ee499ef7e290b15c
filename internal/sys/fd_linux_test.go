package sys

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func closes(t *testing.T, fd int) bool {
	t.Helper()
	marked, err := CloseOnExec(fd)
	require.NoError(t, err)
	return marked
}

// Numbers far above those in use, so that nothing else is marked or unmarked.
func TestMarkRange(t *testing.T) {
	const first = 900
	for fd := first; fd < first+4; fd++ {
		require.NoError(t, unix.Dup3(0, fd, unix.O_CLOEXEC))
		defer Close(fd)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		require.NoError(t, err)
	}
	if !Enabled(CloseRange) {
		assert.ErrorIs(t, MarkRange(first, -1), syscall.ENOSYS)
		return
	}
	if err := MarkRange(first+1, first+2); err != nil {
		t.Skipf("close_range: %v", err) // before Linux 5.11
	}
	assert.Equal(t, []bool{false, true, true, false},
		[]bool{closes(t, first), closes(t, first+1), closes(t, first+2), closes(t, first+3)})
	require.NoError(t, MarkRange(first+3, -1))
	assert.True(t, closes(t, first+3))
	assert.False(t, closes(t, first))
	require.NoError(t, SetCloseOnExec(first))
	assert.True(t, closes(t, first))
	assert.ErrorIs(t, SetCloseOnExec(1<<20), syscall.EBADF)
	_, err := CloseOnExec(1 << 20)
	assert.ErrorIs(t, err, syscall.EBADF)
	assert.ErrorIs(t, MarkRange(10, 5), syscall.EINVAL)
}

func TestFileOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	a, err := FileOf(int(f.Fd()))
	require.NoError(t, err)
	assert.Equal(t, TypeFile, a.Type)
	assert.False(t, a.Unlinked)
	for _, path := range []string{path, "/dev/null", "/proc/self/stat"} { // as fstat says it
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		got, err := FileOf(int(f.Fd()))
		require.NoError(t, err)
		want, err := fileOf(int(f.Fd()))
		require.NoError(t, err)
		assert.Equal(t, want, got, path)
	}
	require.NoError(t, os.Remove(path))
	b, err := FileOf(int(f.Fd()))
	require.NoError(t, err)
	assert.True(t, b.Unlinked)
	assert.Equal(t, [2]uint64{a.Dev, a.Inode}, [2]uint64{b.Dev, b.Inode})
	mode, err := ModeOf(int(f.Fd()))
	require.NoError(t, err)
	assert.Equal(t, Mode{Read: true, Write: true}, mode)
	_, err = FileOf(1 << 20)
	assert.ErrorIs(t, err, syscall.EBADF)
	assert.False(t, IsTerminal(int(f.Fd())))
}

func TestPrivileged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, nil, 0o755))
	for mode, want := range map[os.FileMode]bool{
		0o755: false, 0o755 | os.ModeSetuid: true, 0o755 | os.ModeSetgid: true,
		0o745 | os.ModeSetgid: false, // mandatory locking, once
	} {
		require.NoError(t, os.Chmod(path, mode))
		privileged, err := Privileged(path)
		require.NoError(t, err)
		assert.Equal(t, want, privileged, mode)
	}
	_, err := Privileged(path + "x")
	assert.ErrorIs(t, err, syscall.ENOENT)
}
