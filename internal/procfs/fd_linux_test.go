package procfs

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// target returns the parsed link of one descriptor of ours.
func target(t *testing.T, fd int) FDTarget {
	t.Helper()
	links, err := FDs(Self)
	require.NoError(t, err)
	require.True(t, slices.IsSortedFunc(links, func(a, b FDLink) int { return a.FD - b.FD }))
	i := slices.IndexFunc(links, func(l FDLink) bool { return l.FD == fd })
	require.GreaterOrEqual(t, i, 0, "descriptor %d is not listed", fd)
	return ParseFDTarget(links[i].Link)
}

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	var st syscall.Stat_t
	require.NoError(t, syscall.Fstat(fd, &st))
	return st.Ino
}

func TestFDs(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	for _, end := range []*os.File{r, w} {
		fd := int(end.Fd())
		assert.Equal(t, FDTarget{Kind: FDPipe, Inode: inodeOf(t, fd)}, target(t, fd))
	}

	// A file that would like to be a pipe, and then one that was deleted.
	name := filepath.Join(t.TempDir(), "pipe:[7]\n (deleted)")
	h, err := os.Create(name)
	require.NoError(t, err)
	defer h.Close()
	got := target(t, int(h.Fd()))
	assert.Equal(t, FDPath, got.Kind)
	assert.Equal(t, name, got.Name+" (deleted)", "the one ambiguity")
	require.NoError(t, os.Remove(name))
	assert.Equal(t, FDTarget{Kind: FDPath, Name: name, Deleted: true}, target(t, int(h.Fd())))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	lf, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer lf.Close()
	assert.Equal(t, FDTarget{Kind: FDSocket, Inode: inodeOf(t, int(lf.Fd()))}, target(t, int(lf.Fd())))

	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	require.NoError(t, err)
	defer syscall.Close(ep)
	assert.Equal(t, FDTarget{Kind: FDAnon, Name: "eventpoll"}, target(t, ep))

	ns, err := os.Open("/proc/self/ns/net")
	require.NoError(t, err)
	defer ns.Close()
	assert.Equal(t, FDTarget{Kind: FDOther, Name: "net", Inode: inodeOf(t, int(ns.Fd()))}, target(t, int(ns.Fd())))
}

func TestFDsOfMemfd(t *testing.T) {
	number := map[string]uintptr{"386": 356, "amd64": 319, "arm": 385, "arm64": 279, "riscv64": 279}[runtime.GOARCH]
	if number == 0 {
		t.Skip("the number of memfd_create is not known for " + runtime.GOARCH)
	}
	name, err := syscall.BytePtrFromString("a (deleted)\n/b")
	require.NoError(t, err)
	r, _, errno := syscall.Syscall(number, uintptr(unsafe.Pointer(name)), 1, 0)
	require.Zero(t, errno)
	fd := int(r)
	defer syscall.Close(fd)
	assert.Equal(t, FDTarget{Kind: FDMemfd, Name: "a (deleted)\n/b", Deleted: true}, target(t, fd))
}

func TestFDsOfChild(t *testing.T) {
	p := startSubject(t, "wait", "")
	links, err := FDs(p.pid)
	require.NoError(t, err)
	var fds []int
	for _, l := range links {
		fds = append(fds, l.FD)
		want, err := os.Readlink("/proc/" + strconv.Itoa(p.pid) + "/fd/" + strconv.Itoa(l.FD))
		if assert.NoError(t, err) {
			assert.Equal(t, want, l.Link)
		}
	}
	assert.ElementsMatch(t, numbersIn(t, "/proc/"+strconv.Itoa(p.pid)+"/fd"), fds)
	assert.Equal(t, FDPipe, ParseFDTarget(links[0].Link).Kind, "its standard input")

	var first []int
	require.NoError(t, WalkFDs(p.pid, func(fd int, _ []byte) bool {
		first = append(first, fd)
		return false
	}))
	assert.Equal(t, []int{0}, first)

	require.NoError(t, p.Process.Kill())
	waitExited(t, p.pid)
	links, err = FDs(p.pid)
	if os.Getuid() == 0 {
		assert.NoError(t, err)
	} else {
		assert.ErrorIs(t, err, fs.ErrPermission, "the files of a zombie are root's")
	}
	assert.Empty(t, links, "a zombie has none")
	_ = p.Wait()
	_, err = FDs(p.pid)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// TestWalkFDsLeavesOutWhatIsClosed closes a descriptor that the kernel has listed already.
func TestWalkFDsLeavesOutWhatIsClosed(t *testing.T) {
	first, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer first.Close()
	second, err := os.Open("/dev/null")
	require.NoError(t, err)
	gone := int(second.Fd())
	require.Less(t, int(first.Fd()), gone)
	require.NoError(t, WalkFDs(Self, func(fd int, _ []byte) bool {
		if fd == int(first.Fd()) {
			second.Close()
		}
		return assert.NotEqual(t, gone, fd)
	}))
}

func TestDescriptorsAreCloseOnExec(t *testing.T) {
	fd, err := openFile(file{name: "loadavg"}, 0)
	require.NoError(t, err)
	defer sys.Close(fd)
	d, err := openDirectory(file{})
	require.NoError(t, err)
	defer d.close()
	for _, fd := range []int{fd, d.fd} {
		info, err := ReadFDInfo(Self, fd)
		require.NoError(t, err)
		assert.True(t, info.CloseOnExec(), "a child of a concurrent start must not inherit it")
	}
}

func TestFDsLeavesNothingOpen(t *testing.T) {
	count := func() int { return len(numbersIn(t, "/proc/self/fd")) }
	before := count()
	for range 50 {
		_, _ = FDs(Self)
		_, _ = FDs(0)
		_, _ = PIDs()
		_, _ = ReadStat(1)
		_ = WalkFDs(Self, func(int, []byte) bool { return false })
		_, _ = ReadKernelStat()
		_, _ = Threads(Self)
	}
	assert.Equal(t, before, count())
}

func TestWalkFDsDoesNotAllocatePerDescriptor(t *testing.T) {
	var open []*os.File
	defer func() {
		for _, h := range open {
			h.Close()
		}
	}()
	walk := func() float64 {
		var inode uint64
		return testing.AllocsPerRun(20, func() {
			_ = WalkFDs(Self, func(_ int, link []byte) bool {
				n, _ := PipeInode(link)
				inode |= n
				return true
			})
		})
	}
	few := walk()
	for range 200 {
		h, err := os.Open("/dev/null")
		require.NoError(t, err)
		open = append(open, h)
	}
	assert.InDelta(t, few, walk(), 3)
}

// TestFDsOfStranger reads as another user: what may not be read is an error that says so, and never
// an empty list.
func TestFDsOfStranger(t *testing.T) {
	if os.Getuid() != 0 {
		_, err := FDs(1)
		assert.ErrorIs(t, err, fs.ErrPermission)
		return
	}
	p := startSubject(t, "wait", "")
	out := asNobody(t, "fds", strconv.Itoa(p.pid))
	assert.Equal(t, "permission", strings.TrimSpace(out))
}

func TestWalkFDNumbers(t *testing.T) {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	var all []int
	require.NoError(t, WalkFDNumbers(Self, func(fd int) bool {
		all = append(all, fd)
		return true
	}))
	assert.True(t, slices.IsSorted(all))
	assert.Contains(t, all, int(f.Fd()))
	links, err := FDs(Self)
	require.NoError(t, err)
	assert.Len(t, all, len(links))

	calls := 0
	require.NoError(t, WalkFDNumbers(Self, func(int) bool { calls++; return false }))
	assert.Equal(t, 1, calls)
	assert.ErrorIs(t, WalkFDNumbers(1<<30, func(int) bool { return true }), fs.ErrNotExist)
	// Nothing for a descriptor. The race detector has sync.Pool lose what it holds now and then.
	assert.Less(t, testing.AllocsPerRun(200, func() {
		_ = WalkFDNumbers(Self, func(int) bool { return true })
	}), float64(min(len(all), 3)))
}

func TestReadFDLink(t *testing.T) {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	link, err := ReadFDLink(Self, int(f.Fd()))
	require.NoError(t, err)
	assert.Equal(t, os.DevNull, link)
	_, err = ReadFDLink(Self, 1<<29)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
