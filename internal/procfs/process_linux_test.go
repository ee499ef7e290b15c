package procfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadStatus(t *testing.T) {
	const name = "a\nState:\tZ\\n"
	p := startSubject(t, "comm", name)
	var s Status
	var err error
	eventually(t, func() bool { // the runtime of the subject makes a thread when it likes to
		s, err = ReadStatus(p.pid)
		require.NoError(t, err)
		stat, err := ReadStat(p.pid)
		require.NoError(t, err)
		return s.Threads == stat.NumThreads
	}, "as many threads as in stat")
	assert.Equal(t, name, s.Name)
	assert.NotEqual(t, byte('Z'), s.State)
	assert.Equal(t, p.pid, s.TGID)
	assert.Equal(t, os.Getpid(), s.PPID)
	assert.Zero(t, s.TracerPID)
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	assert.Equal(t, [4]uint32{uid, uid, uid, uid}, s.UID)
	assert.Equal(t, [4]uint32{gid, gid, gid, gid}, s.GID)
	if s.NSPID != nil {
		assert.Equal(t, p.pid, s.NSPID[0])
	}
	assert.True(t, HasSignal(s.SigCgt, int(syscall.SIGURG)), "the Go runtime catches it")

	umask := syscall.Umask(0o27)
	defer syscall.Umask(umask)
	signal.Ignore(syscall.SIGUSR2)
	defer signal.Reset(syscall.SIGUSR2)
	self, err := ReadStatus(Self)
	require.NoError(t, err)
	assert.Equal(t, 0o27, self.Umask)
	assert.True(t, HasSignal(self.SigIgn, int(syscall.SIGUSR2)))
	assert.False(t, HasSignal(self.SigCgt, int(syscall.SIGUSR2)))

	thread, err := ReadThreadStatus(p.pid, p.pid)
	require.NoError(t, err)
	assert.Equal(t, s.SigCgt, thread.SigCgt)

	require.NoError(t, p.Process.Kill())
	waitExited(t, p.pid)
	s, err = ReadStatus(p.pid)
	require.NoError(t, err, "of a zombie")
	assert.Equal(t, byte('Z'), s.State)
	assert.Equal(t, -1, s.Umask)
	_ = p.Wait()
	_, err = ReadStatus(p.pid)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadChildren(t *testing.T) {
	var want []int
	for range 3 {
		want = append(want, startSubject(t, "wait", "").pid)
	}
	got, err := Children(Self)
	require.NoError(t, err)
	for _, pid := range want {
		assert.Contains(t, got, pid)
	}
	assert.True(t, slices.IsSorted(got))
	byPID, err := Children(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, got, byPID)

	got, err = Children(want[0])
	require.NoError(t, err)
	assert.Empty(t, got)
	_, err = Children(0)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadLimits(t *testing.T) {
	var rl syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &rl))
	soft, hard, err := ReadLimit(Self, "Max open files")
	require.NoError(t, err)
	assert.Equal(t, []uint64{uint64(rl.Cur), uint64(rl.Max)}, []uint64{soft, hard})

	limits, err := ReadLimits(Self)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(limits), 16)
	for _, l := range limits {
		soft, hard, err := ReadLimit(Self, l.Name)
		require.NoError(t, err)
		assert.Equal(t, []uint64{l.Soft, l.Hard}, []uint64{soft, hard}, l.Name)
	}
	_, _, err = ReadLimit(Self, LimitRTTime)
	assert.NoError(t, err)
	_, _, err = ReadLimit(Self, "Max nothing")
	assert.ErrorIs(t, err, ErrSyntax)
	_, _, err = ReadLimit(0, LimitRTTime)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = ReadLimit(Self, LimitRTTime) }))
}

func TestReadMountInfoAndCGroups(t *testing.T) {
	mounts, err := ReadMountInfo(Self)
	require.NoError(t, err)
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat("/proc/self/stat", &st))
	i := len(mounts) - 1 // of those on one mount point the last lies on top
	for i >= 0 && (mounts[i].MountPoint != "/proc" || mounts[i].FSType != "proc") {
		i--
	}
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, uint64(st.Dev), uint64(mounts[i].Major)<<8|uint64(mounts[i].Minor))

	groups, err := ReadCGroups(Self)
	require.NoError(t, err)
	data, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	assert.Len(t, groups, strings.Count(string(data), "\n"))

	h, err := os.Open("/proc/self/stat")
	require.NoError(t, err)
	defer h.Close()
	info, err := ReadFDInfo(Self, int(h.Fd()))
	require.NoError(t, err)
	assert.Equal(t, mounts[i].ID, info.MountID, "fdinfo names the mount that mountinfo lists")
}

func TestReadEnviron(t *testing.T) {
	p := startSubject(t, "wait", "", "MARK=outer/inner", "EMPTY=", "MARK2=second", "LONG="+strings.Repeat("x", 100_000))
	for key, want := range map[string]string{"MARK": "outer/inner", "EMPTY": "", "LONG": strings.Repeat("x", 100_000)} {
		v, answer, err := ReadEnviron(p.pid, key)
		require.NoError(t, err)
		assert.Equal(t, EnvironFound, answer, key)
		assert.Equal(t, want, v)
	}
	_, answer, err := ReadEnviron(p.pid, "MAR")
	require.NoError(t, err)
	assert.Equal(t, EnvironAbsent, answer)

	require.NoError(t, p.Process.Kill())
	waitExited(t, p.pid)
	_, answer, err = ReadEnviron(p.pid, "MARK")
	if os.Getuid() != 0 {
		assert.ErrorIs(t, err, fs.ErrPermission)
	} else if err != nil { // newer kernels
		assert.ErrorIs(t, err, syscall.ESRCH)
	}
	assert.Equal(t, EnvironUnknown, answer, "of a zombie, it proves nothing")
	args, err := ReadCmdline(p.pid)
	require.NoError(t, err)
	assert.Empty(t, args)
	_ = p.Wait()
	_, answer, err = ReadEnviron(p.pid, "MARK")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, EnvironUnknown, answer)
}

// A process without an environment is not taken for one in the middle of exec.
func TestEnvironOfNone(t *testing.T) {
	cmd := exec.Command("cat")
	cmd.Env = []string{}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.WriteString(stdin, "x")
	require.NoError(t, err)
	_, err = io.ReadFull(stdout, make([]byte, 1))
	require.NoError(t, err)
	thread, err := OpenThread(cmd.Process.Pid)
	require.NoError(t, err)
	defer thread.Close()
	_, answer, err := thread.Environ("MARK")
	require.NoError(t, err)
	assert.Equal(t, EnvironUnknown, answer)
	stdin.Close()
	waitExited(t, cmd.Process.Pid)
	_, _, err = thread.Environ("MARK")
	assert.NotErrorIs(t, err, ErrInExec)
	assert.NoError(t, cmd.Wait())
}

// TestLeaderThatExited: what belongs to the threads that live on is not found at the leader.
func TestLeaderThatExited(t *testing.T) {
	p := startSubject(t, "leaderless", "", "MARK=x")
	links, err := FDs(p.pid)
	assert.True(t, err == nil || os.IsPermission(errors.Unwrap(err)), "%v", err)
	assert.Empty(t, links)
	_, answer, _ := ReadEnviron(p.pid, "MARK")
	assert.Equal(t, EnvironUnknown, answer)

	tid, err := LiveThread(p.pid)
	require.NoError(t, err)
	require.NotEqual(t, p.pid, tid)
	thread, err := OpenThread(p.pid)
	require.NoError(t, err)
	defer thread.Close()
	v, answer, err := thread.Environ("MARK")
	require.NoError(t, err)
	assert.Equal(t, EnvironFound, answer)
	assert.Equal(t, "x", v)
	count := 0
	require.NoError(t, WalkThreadFDs(p.pid, tid, func(fd int, link []byte) bool {
		if _, ok := PipeInode(link); ok && fd == 1 {
			info, err := ReadThreadFDInfo(p.pid, tid, fd)
			require.NoError(t, err)
			assert.True(t, info.CanWrite())
			count++
		}
		return true
	}))
	assert.Equal(t, 1, count, "its standard output")

	other := startSubject(t, "wait", "")
	tid, err = LiveThread(other.pid)
	require.NoError(t, err)
	assert.Equal(t, other.pid, tid)
	require.NoError(t, other.Process.Kill())
	waitExited(t, other.pid)
	_, err = LiveThread(other.pid)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestReadCmdline(t *testing.T) {
	p := startSubject(t, "wait", "")
	args, err := ReadCmdline(p.pid)
	require.NoError(t, err)
	assert.Equal(t, p.Args, args)
	args, err = ReadCmdline(Self)
	require.NoError(t, err)
	assert.Equal(t, os.Args, args)

	long := startSubjectArgs(t, strings.Repeat("y", 100_000), strings.Repeat("z", 100_000))
	args, err = ReadCmdline(long.pid)
	assert.ErrorIs(t, err, ErrTooBig)
	require.Len(t, args, 3)
	assert.Equal(t, strings.Repeat("y", 100_000), args[1])
	assert.Len(t, strings.Join(args, "\x00"), cmdlineLimit)
}

// TestReadBounds reads one file with every bound around its size and around the steps in which the
// buffer grows.
func TestReadBounds(t *testing.T) {
	p := startSubject(t, "wait", "", "LONG="+strings.Repeat("x", 70_000))
	f := file{place: inProcess, pid: p.pid, name: "environ"}
	want, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ")
	require.NoError(t, err)
	for _, limit := range []int{0, 1, 100, bufferSize - 1, bufferSize, bufferSize + 1, 2*bufferSize - 1, 2 * bufferSize,
		len(want) - 1, len(want), len(want) + 1, 10 * len(want)} {
		buf := make([]byte, 0, bufferSize)
		err := readInto(f, &buf, limit)
		if limit < len(want) {
			assert.ErrorIs(t, err, ErrTooBig, "bound %d", limit)
		} else {
			assert.NoError(t, err, "bound %d", limit)
		}
		assert.Equal(t, string(want[:min(limit, len(want))]), string(buf), "bound %d", limit)
	}
}

func TestReadSyscall(t *testing.T) {
	// A thread of ours that is blocked in a read of a pipe.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	fd := int(r.Fd()) // Fd makes it blocking
	tids, done := make(chan int), make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		runtime.LockOSThread()
		tids <- syscall.Gettid()
		_, _ = syscall.Read(fd, make([]byte, 1))
	}()
	tid := <-tids
	eventually(t, func() bool {
		s, err := ReadSyscall(Self, tid)
		if os.IsPermission(err) {
			return true
		}
		return err == nil && s.Number == syscall.SYS_READ && s.Args[0] == uint64(fd) && s.Args[2] == 1 && s.PC != 0
	}, "the thread blocks in read")
	name, err := ReadWchan(Self, tid)
	require.NoError(t, err)
	t.Logf("wchan %q", name)
	require.NoError(t, w.Close())
	<-done

	// The thread that asks is running.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := ReadSyscall(Self, syscall.Gettid())
	require.NoError(t, err)
	// Being in the read of this very file, it is shown in it.
	assert.Equal(t, syscall.SYS_READ, s.Number)
	_, err = ReadSyscall(Self, 1<<30)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
