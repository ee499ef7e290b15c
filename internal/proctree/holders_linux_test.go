package proctree

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func inodeOf(t *testing.T, f *os.File) uint64 {
	t.Helper()
	conn, err := f.SyscallConn()
	require.NoError(t, err)
	var ino uint64
	require.NoError(t, conn.Control(func(fd uintptr) { ino, err = sys.Inode(int(fd)) }))
	require.NoError(t, err)
	return ino
}

func holdersOf(t *testing.T, inode uint64) []Holder {
	t.Helper()
	holders, complete := Holders(time.Now().Add(time.Minute), os.Getpid(), inode)
	assert.True(t, complete)
	return holders
}

// One look serves several pipes, and says so when its time is over before it came to all processes.
func TestHoldersOfTwoWithinTheTime(t *testing.T) {
	var inodes []uint64
	for range 2 {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		inodes = append(inodes, inodeOf(t, w))
	}
	holders, complete := Holders(time.Now().Add(time.Minute), os.Getpid(), inodes...)
	assert.True(t, complete)
	require.Len(t, holders, 2)
	assert.ElementsMatch(t, inodes, []uint64{holders[0].Inode, holders[1].Inode})
	for _, h := range holders {
		assert.Equal(t, os.Getpid(), h.PID)
		assert.Len(t, h.FDs, 1)
	}

	holders, complete = Holders(time.Now(), os.Getpid(), inodes...)
	assert.False(t, complete)
	assert.Empty(t, holders)
}

func TestHolders(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	ino := inodeOf(t, w)

	// The leader has the write end twice and the read end once; the canary is number 6.
	cmd := testproc.Command("hang")
	cmd.ExtraFiles = []*os.File{w, r, w}
	s := start(t, cmd)
	testproc.Ready(t, s.stdout)
	reading := testproc.Command("hang")
	reading.ExtraFiles = []*os.File{r}
	other := start(t, reading)
	testproc.Ready(t, other.stdout)

	byPID := func() map[int]Holder {
		m := make(map[int]Holder)
		for _, h := range holdersOf(t, ino) {
			assert.NotContains(t, m, h.PID)
			m[h.PID] = h
		}
		return m
	}
	holders := byPID()
	assert.Len(t, holders, 2, "who only reads holds nothing up")
	assert.Len(t, holders[os.Getpid()].FDs, 1, "we ourselves")
	leader := holders[cmd.Process.Pid]
	assert.ElementsMatch(t, []int{3, 5}, leader.FDs)
	assert.Equal(t, Inspect(cmd.Process.Pid), leader.Process)

	require.NoError(t, w.Close())
	holders = byPID()
	assert.Len(t, holders, 1)
	assert.Contains(t, holders, cmd.Process.Pid)

	s.endLeader(t)
	assert.Empty(t, holdersOf(t, ino), "a zombie holds nothing")
}

// Opened for both, as a descriptor of a FIFO or /proc/PID/fd may be, it can write.
func TestHoldersForBoth(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	ino := inodeOf(t, w)
	conn, err := w.SyscallConn()
	require.NoError(t, err)
	var both *os.File
	require.NoError(t, conn.Control(func(fd uintptr) {
		both, err = os.OpenFile("/dev/fd/"+strconv.Itoa(int(fd)), os.O_RDWR|syscall.O_NONBLOCK, 0)
	}))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	holders := holdersOf(t, ino)
	require.Len(t, holders, 1)
	assert.Equal(t, os.Getpid(), holders[0].PID)
	require.NoError(t, both.Close())
	assert.Empty(t, holdersOf(t, ino))
}

func TestHoldersOfNothing(t *testing.T) {
	assert.Empty(t, holdersOf(t, 0), "the number of a pipe that could not be asked")
	assert.Empty(t, holdersOf(t, 1<<63))
}

// TestHoldersLikelyFirst is about a machine with so many processes that not all are looked at in time.
func TestHoldersLikelyFirst(t *testing.T) {
	pids := []int{1, 2, 900, 1001, 998, 5000}
	likelyFirst(pids, 2, 1000)
	assert.Equal(t, []int{2, 1001, 998, 900, 1, 5000}, pids)
}
