package procfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
)

func TestReadStatOfHostileName(t *testing.T) {
	// The kernel keeps 15 bytes of what is written.
	for _, name := range []string{") R 1 (\n", "))) Z 1 1 1 0 1", "\n\n", " ", "a\\nb)", "\xff\xfe"} {
		t.Run("", func(t *testing.T) {
			p := startSubject(t, "comm", name)
			s, err := ReadStat(p.pid)
			require.NoError(t, err)
			assert.Equal(t, name, s.Comm)
			assert.Equal(t, p.pid, s.PID)
			assert.Equal(t, os.Getpid(), s.PPID)
			assert.Equal(t, syscall.Getpgrp(), s.PGRP)
			assert.True(t, s.Alive())

			bare, err := ReadStatNoComm(p.pid)
			require.NoError(t, err)
			assert.Empty(t, bare.Comm)
			assert.Equal(t, s.StartTime, bare.StartTime)

			thread, err := ReadThreadStat(p.pid, p.pid)
			require.NoError(t, err)
			assert.Equal(t, name, thread.Comm)
			assert.Equal(t, s.StartTime, thread.StartTime)
		})
	}
}

func TestReadStatOfZombie(t *testing.T) {
	p := startSubject(t, "wait", "")
	before, err := ReadStat(p.pid)
	require.NoError(t, err)
	require.NoError(t, p.Process.Kill())
	waitExited(t, p.pid)

	s, err := ReadStat(p.pid)
	require.NoError(t, err)
	assert.Equal(t, byte('Z'), s.State)
	assert.Equal(t, before.StartTime, s.StartTime)
	assert.False(t, s.Alive())
	assert.True(t, s.Dead())
	assert.NoError(t, syscall.Kill(p.pid, 0), "to kill(pid, 0) it looks alive")

	_ = p.Wait()
	_, err = ReadStat(p.pid)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorIs(t, err, syscall.ENOENT)
}

// waitExited waits until a child is a zombie and leaves it one.
func waitExited(t testing.TB, pid int) {
	const pPID, exited, noWait = 1, 4, 0x01000000 // P_PID, WEXITED, WNOWAIT of waitid(2)
	var info [128]byte
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), exited|noWait, 0, 0)
		if errno != syscall.EINTR {
			require.Zero(t, errno)
			return
		}
	}
}

func TestReadStatOfLeaderThatExited(t *testing.T) {
	p := startSubject(t, "leaderless", "")
	s, err := ReadStat(p.pid)
	require.NoError(t, err)
	assert.Equal(t, byte('Z'), s.State)
	assert.Greater(t, s.NumThreads, 1)
	assert.True(t, s.Alive(), "other threads live")

	tids, err := Threads(p.pid)
	require.NoError(t, err)
	assert.Contains(t, tids, p.pid)
	leader, err := ReadThreadStat(p.pid, p.pid)
	require.NoError(t, err)
	assert.True(t, leader.Dead())
	var live int
	for _, tid := range tids {
		if s, err := ReadThreadStat(p.pid, tid); err == nil && !s.Dead() {
			live++
		}
	}
	assert.Positive(t, live)
}

// TestReadStatAfterOpen: the process ends between open and read. The file is then there but says
// ESRCH, which must match what open would have said.
func TestReadStatAfterOpen(t *testing.T) {
	p := startSubject(t, "wait", "")
	f := file{place: inProcess, pid: p.pid, name: "stat"}
	fd, err := openFile(f, 0)
	require.NoError(t, err)
	defer sys.Close(fd)
	require.NoError(t, p.Process.Kill())
	_ = p.Wait()
	_, err = sys.ReadBytes(fd, make([]byte, statSize))
	require.ErrorIs(t, err, syscall.ESRCH)
	assert.ErrorIs(t, f.fail("read", err), fs.ErrNotExist)
	assert.NotErrorIs(t, f.fail("read", syscall.EIO), fs.ErrNotExist)
	assert.ErrorIs(t, f.fail("read", syscall.EACCES), fs.ErrPermission)
}

func TestReadStatOfNobody(t *testing.T) {
	// Among them numbers that must not be taken for our own files or for /proc/stat.
	for _, pid := range []int{0, -1, -2, math.MaxInt32, math.MaxInt, math.MinInt, 1 << 22} {
		s, err := ReadStat(pid)
		assert.ErrorIs(t, err, fs.ErrNotExist, "%d", pid)
		assert.Zero(t, s)
		var e *Error
		require.True(t, errors.As(err, &e))
		assert.Equal(t, "open", e.Op)
	}
	_, err := ReadThreadStat(os.Getpid(), 1)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = readStatOf(t, os.Getppid(), os.Getpid())
	assert.ErrorIs(t, err, ErrSyntax)
}

// readStatOf reads the stat of one process while expecting another's.
func readStatOf(t *testing.T, pid, want int) (Stat, error) {
	t.Helper()
	s, _, err := readStat(file{place: inProcess, pid: pid, name: "stat"}, want, make([]byte, statSize))
	return s, err
}

func TestReadStatOfSelf(t *testing.T) {
	byName, err := ReadStat(Self)
	require.NoError(t, err)
	byPID, err := ReadStat(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, byPID.PID, byName.PID)
	assert.Equal(t, byPID.StartTime, byName.StartTime)
	assert.Equal(t, os.Getppid(), byName.PPID)
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	assert.Equal(t, int(sid), byName.Session)
	tids, err := Threads(Self)
	require.NoError(t, err)
	assert.InDelta(t, len(tids), byName.NumThreads, 8)

	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	later, err := ReadStat(Self)
	require.NoError(t, err)
	used := Ticks(byName.UTime + byName.STime).Nanoseconds()
	assert.LessOrEqual(t, used, usage.Utime.Nano()+usage.Stime.Nano()+Ticks(2).Nanoseconds())
	assert.LessOrEqual(t, byName.UTime+byName.STime, later.UTime+later.STime)
}

func TestReadStatDoesNotAllocate(t *testing.T) {
	pid := os.Getpid()
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = ReadStatNoComm(pid) }))
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = ReadStat(pid) }), 1.0)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = ReadLoadavg() }))
}

func BenchmarkReadStat(b *testing.B) {
	pid := os.Getpid()
	for _, c := range []struct {
		name string
		read func(pid int) error
	}{
		{"impl=procfs", func(pid int) error { _, err := ReadStat(pid); return err }},
		{"impl=procfs-nocomm", func(pid int) error { _, err := ReadStatNoComm(pid); return err }},
		{"impl=os", func(int) error {
			data, err := os.ReadFile("/proc/self/stat")
			if err == nil {
				_, err = ParseStat(data)
			}
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.read(pid); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseStat(b *testing.B) {
	data := []byte("1234 (cat)" + statTail)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseStat(data)
	}
}
