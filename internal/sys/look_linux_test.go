package sys

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// soon tries again what the kernel need not be able to do at once: where others change directories at the
// same time, it gives up a look without locks.
func soon(t *testing.T, f func() error) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NoError(c, f()) }, time.Minute, time.Millisecond)
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/file"
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o111))
	require.NoError(t, os.Symlink("file", dir+"/link"))
	require.NoError(t, os.Symlink("/proc/self/stat", dir+"/away"))
	in, err := Find(Cwd, dir)
	require.NoError(t, err)
	defer in.Close()
	assert.Equal(t, TypeDirectory, in.Type)
	assert.NoError(t, in.Searchable())
	for _, path := range []string{"file", "./link", file} {
		p, err := Find(in.FD, path)
		require.NoError(t, err, path)
		assert.Equal(t, TypeFile, p.Type)
		assert.EqualValues(t, 7, p.Version.Size)
		assert.ErrorIs(t, p.Searchable(), unix.ENOTDIR)
		LearnRoot()
		if localDev.Load() == p.Version.Dev && Enabled(Cached) {
			soon(t, func() error {
				// The first to follow a new link has its access time written, and the next one if that was
				// in the same tick of the clock.
				again, err := Find(in.FD, path)
				require.NoError(t, err)
				again.Close()
				q, err := FindCached(in.FD, path)
				if err == nil {
					assert.Equal(t, p.Version, q.Version)
					q.Close()
				}
				return err
			})
		}
		p.Close()
	}
	for path, want := range map[string]error{dir + "/missing": unix.ENOENT, "": unix.ENOENT, file + "/x": unix.ENOTDIR, "a\x00": unix.EINVAL} {
		_, err := Find(Cwd, path)
		assert.ErrorIs(t, err, want, path)
	}
	for _, path := range []string{"", dir + "/missing", "/proc/self/stat", "/dev/null", dir + "/away", "\x00", "/" + strings.Repeat("./", 300)} {
		_, err := FindCached(Cwd, path)
		assert.Error(t, err, path)
	}
	before := localDev.Swap(0)
	_, err = FindCached(Cwd, file)
	assert.ErrorIs(t, err, unix.EAGAIN, "nothing is known of the root directory")
	localDev.Store(1)
	_, err = FindCached(Cwd, file)
	assert.Error(t, err, "another file system")
	localDev.Store(before)
	restore(t)
	Disable("cached")
	_, err = FindCached(Cwd, file)
	assert.Error(t, err)
}

func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/file", []byte("content"), 0o600))
	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	p, err := Find(Cwd, dir+"/file")
	require.NoError(t, err)
	defer p.Close()
	require.NoError(t, os.Rename(dir+"/fifo", dir+"/file"), "the name is a FIFO's now")
	fd, err := p.OpenRegular()
	require.NoError(t, err)
	b := make([]byte, 100)
	n, err := Pread(fd, b, 3)
	assert.NoError(t, err)
	assert.Equal(t, "tent", string(b[:n]))
	assert.True(t, CloseUnlocked(fd))
	for _, path := range []string{dir + "/file", dir, "/dev/null"} {
		p, err := Find(Cwd, path)
		require.NoError(t, err)
		_, err = p.OpenRegular()
		assert.ErrorIs(t, err, unix.EINVAL, path)
		p.Close()
	}
}

// A descriptor of a file that we have locked stays, whatever the part and the kind of the lock.
func TestCloseUnlocked(t *testing.T) {
	file := t.TempDir() + "/file"
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	for _, kind := range []int16{unix.F_RDLCK, unix.F_WRLCK} {
		lock := unix.Flock_t{Type: kind, Start: 1000, Len: 1}
		require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock))
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		require.False(t, CloseUnlocked(fd))
		assert.True(t, lockedBySomebody(t, file))
		lock.Type = unix.F_UNLCK
		require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock))
		require.True(t, CloseUnlocked(fd))
	}
}

// lockedBySomebody asks in another process: a process does not see its own locks.
func lockedBySomebody(t *testing.T, file string) bool {
	t.Helper()
	out, err := exec.Command("cat", "/proc/locks").Output()
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	st := info.Sys().(*syscall.Stat_t)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "POSIX") && strings.Contains(line, ":"+itoa(st.Ino)+" ") {
			return true
		}
	}
	return false
}

// Closing what was opened with O_PATH leaves our locks alone: all that a look does.
func TestLookKeepsLocks(t *testing.T) {
	file := t.TempDir() + "/file"
	f, err := os.Create(file)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	p, err := Find(Cwd, file)
	require.NoError(t, err)
	p.Close()
	kind, err := TypeAt("/proc/self/fd/" + itoa(uint64(f.Fd())))
	require.NoError(t, err)
	assert.Equal(t, TypeFile, kind)
	for _, mode := range []FIFOMode{FIFORead, FIFOWrite} {
		err = ReopenFIFO("/proc/self/fd/"+itoa(uint64(f.Fd())), mode, func(int) { t.Error("opened") })
		assert.ErrorIs(t, err, unix.ESPIPE)
	}
	assert.True(t, lockedBySomebody(t, file))
}

func TestReopenFIFO(t *testing.T) {
	r, w := openPipe(t)
	defer Close(r)
	defer Close(w)
	_, err := unix.Write(w, []byte("abc"))
	require.NoError(t, err)
	for fd, mode := range map[int]FIFOMode{r: FIFORead, w: FIFOWrite} {
		called := false
		require.NoError(t, ReopenFIFO("/proc/self/fd/"+itoa(uint64(fd)), mode, func(end int) {
			called = true
			n, err := Unread(end)
			assert.NoError(t, err)
			assert.Equal(t, 3, n)
		}))
		assert.True(t, called)
	}
}

func TestSeesAlike(t *testing.T) {
	runtime.LockOSThread() // so that the other one is on another thread
	defer runtime.UnlockOSThread()
	ordinary := ThreadID()
	assert.True(t, SeesAlike(ordinary))
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine
		if !assert.NoError(t, unix.Unshare(unix.CLONE_FS)) {
			return
		}
		assert.True(t, SeesAlike(ordinary), "of its own, and the same")
		if assert.NoError(t, unix.Chdir(t.TempDir())) {
			assert.False(t, SeesAlike(ordinary))
		}
	}()
	<-done
	assert.False(t, SeesAlike(1<<30))
}
