package fdtable

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// at duplicates a descriptor to a number in a range where nothing else is.
func at(t *testing.T, fd, number int) {
	t.Helper()
	require.NoError(t, unix.Dup3(fd, number, unix.O_CLOEXEC))
	t.Cleanup(func() { unix.Close(number) })
}

// TestPass has descriptors from 100 on: passed, marked, unmarked, withheld and closed ones.
func TestPass(t *testing.T) {
	const first = 100
	null := leak(t)
	at(t, null, first)   // passed
	at(t, null, first+1) // marked
	at(t, null, first+2) // inherited anyway
	at(t, null, first+3) // withheld
	at(t, null, first+5) // passed, behind one that is closed
	at(t, null, first+7) // withheld, the highest
	at(t, null, first+8) // beyond
	for _, fd := range []int{first + 2, first + 3, first + 7, first + 8} {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		require.NoError(t, err)
	}
	extra := make([]*os.File, first-FirstFD)
	extra[0] = os.Stdin
	all, opened, err := Pass([]int{first + 5, first}, []int{first + 3, first + 7}, extra)
	require.NoError(t, err)
	require.Empty(t, opened)
	require.Len(t, all, first+8-FirstFD)
	assert.Equal(t, extra, all[:len(extra)])
	var given []int
	for i, f := range all[len(extra):] {
		if f != nil {
			assert.Equal(t, first+i, int(f.Fd()), "under its own number")
			given = append(given, first+i)
		}
	}
	assert.Equal(t, []int{first, first + 2, first + 5}, given)
	again, _, err := Pass([]int{first}, nil, extra)
	require.NoError(t, err)
	require.Len(t, again, first+1-FirstFD, "nothing is behind the highest")
	assert.Same(t, all[len(extra)], again[len(extra)], "one file for each number, for good")

	all, opened, err = Pass([]int{first, first + 9}, nil, extra)
	assert.ErrorIs(t, err, syscall.EBADF)
	assert.ErrorContains(t, err, "descriptor 109")
	assert.Empty(t, all)
	assert.Empty(t, opened)
	all, _, err = Pass(nil, nil, extra)
	require.NoError(t, err)
	assert.Equal(t, extra, all)
}

// TestPassNonblocking duplicates what the runtime would poll otherwise, and nothing else: the end of a duplicate would
// drop the locks of a file.
func TestPassNonblocking(t *testing.T) {
	const first = 120
	dir := t.TempDir()
	var p [2]int
	require.NoError(t, unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC))
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	for i, fd := range []int{
		open(t, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK),
		open(t, dir+"/file", unix.O_CREAT|unix.O_RDWR|unix.O_NONBLOCK),
		p[0],
		open(t, "/dev/null", unix.O_RDONLY|unix.O_NONBLOCK),
	} {
		at(t, fd, first+i)
	}
	all, opened, err := Pass([]int{first, first + 1, first + 2, first + 3}, nil, make([]*os.File, first-FirstFD))
	require.NoError(t, err)
	all = all[first-FirstFD:]
	require.Len(t, all, 4)
	assert.Equal(t, all[2:], opened)
	for i, f := range all[:2] {
		assert.Equal(t, first+i, int(f.Fd()))
	}
	raw, err := all[2].SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		assert.NotEqual(t, first+2, int(fd))
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		require.NoError(t, err)
		assert.NotZero(t, flags&unix.O_NONBLOCK, "as it was")
	}))
	CloseAll(opened)
	assert.True(t, marked(t, first+2), "ours is open")
}
