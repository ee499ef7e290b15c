package fdtable

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// leak opens a descriptor that a child would inherit, under a number that is free.
func leak(t testing.TB) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func nums(list []FD) (fds []int) {
	for _, d := range list {
		fds = append(fds, d.Num)
	}
	return fds
}

// lookNow makes the next Seal look.
func lookNow() {
	sealing.Lock()
	sealing.survey = budget{}
	sealing.Unlock()
}

func marked(t testing.TB, fd int) bool {
	t.Helper()
	m, err := sys.CloseOnExec(fd)
	require.NoError(t, err)
	return m
}

func TestSeal(t *testing.T) {
	a, b := leak(t), leak(t)
	found := Survey()
	require.NoError(t, found.Err)
	assert.Subset(t, nums(found.Leaked), []int{a, b})
	assert.False(t, marked(t, a) || marked(t, b), "a survey changes nothing")

	lookNow()
	found = Seal()
	assert.Subset(t, nums(found.Marked), []int{a, b})
	assert.Empty(t, found.Leaked)
	assert.True(t, marked(t, a) && marked(t, b))
	for fd := range FirstFD {
		m, err := sys.CloseOnExec(fd)
		assert.False(t, err == nil && m, "standard streams are left")
	}
	lookNow()
	assert.Empty(t, Seal().Marked, "once")

	c := leak(t)
	sealing.Lock()
	sealing.survey.next = time.Now().Add(time.Hour)
	sealing.Unlock()
	found = Seal()
	assert.True(t, marked(t, c), "marked also where there is no look")
	if sys.Enabled(sys.CloseRange) {
		assert.Nil(t, found.Marked)
	} else {
		assert.Contains(t, nums(found.Marked), c)
	}
	lookNow()
}

// TestSealAround leaves declared descriptors at the beginning, in the middle and side by side.
func TestSealAround(t *testing.T) {
	fds := []int{leak(t), leak(t), leak(t), leak(t), leak(t), leak(t)}
	slices.Sort(fds)
	left := []int{fds[0], fds[2], fds[3], fds[5]}
	var d []declared
	for _, fd := range left {
		d = append(d, declared{declaration: declaration{fd: fd, variable: "X"}})
	}
	found := survey(d)
	assert.Equal(t, left, nums(found.Declared))
	assert.Subset(t, nums(found.Leaked), []int{fds[1], fds[4]})
	var listed []int
	for _, mark := range []func(){
		func() { _ = markRanges(d) },
		func() {
			var err error
			listed, err = markListed(d)
			assert.NoError(t, err)
			assert.Subset(t, listed, []int{fds[1], fds[4]})
		},
	} {
		mark()
		for _, fd := range fds {
			if sys.Enabled(sys.CloseRange) || listed != nil {
				assert.Equal(t, !slices.Contains(left, fd), marked(t, fd), fd)
			}
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
			require.NoError(t, err)
		}
	}
	lookNow()
	Seal()
}

// TestSealAtOnce has many starts at once: each leak is named by exactly one.
func TestSealAtOnce(t *testing.T) {
	lookNow()
	Seal()
	for range 20 {
		fd := leak(t)
		lookNow()
		var mu sync.Mutex
		var wg sync.WaitGroup
		times := 0
		for range 8 {
			wg.Go(func() {
				found := Seal()
				mu.Lock()
				defer mu.Unlock()
				if slices.Contains(nums(found.Marked), fd) {
					times++
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 1, times)
	}
}

// TestSealOnHungMount has a descriptor on a file system that does not answer: it is marked and named
// without asking it.
func TestSealOnHungMount(t *testing.T) {
	mount := testproc.HungMount(t)
	fd, err := unix.Open(mount, unix.O_PATH, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	lookNow()
	found := Seal()
	assert.True(t, marked(t, fd))
	require.Contains(t, nums(found.Marked), fd, "not only when the file system is aborted")
	i := slices.Index(nums(found.Marked), fd)
	assert.Equal(t, KindDirectory, found.Marked[i].Kind)
}

// TestDeclarationsHold takes declarations back in each way there is.
func TestDeclarationsHold(t *testing.T) {
	fd := leak(t)
	file, err := sys.FileOf(fd)
	require.NoError(t, err)
	t.Setenv("DECLARES_FDS", "yes")
	b := born{files: map[int]sys.File{fd: file}, declared: []declared{
		{declaration{fd: fd, variable: "DECLARES_FDS"}, file, "yes"}}}
	assert.Equal(t, "DECLARES_FDS", declares(b.declaredNow(), fd))
	assert.Empty(t, declares(b.declaredNow(), fd+1))
	t.Setenv("DECLARES_FDS", "otherwise")
	assert.Empty(t, b.declaredNow(), "the variable was changed")
	t.Setenv("DECLARES_FDS", "yes")
	assert.Len(t, b.declaredNow(), 1)
	other, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, unix.Dup3(int(other.Fd()), fd, 0))
	assert.Empty(t, b.declaredNow(), "the number is another file's")
	unix.Close(fd)
	assert.Empty(t, b.declaredNow(), "it was closed")
	reopened, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // for the cleanup
	require.NoError(t, err)
	require.Equal(t, fd, reopened)
}

func TestSealAllocatesNothing(t *testing.T) {
	Seal()
	assert.Zero(t, testing.AllocsPerRun(100, func() { Seal() }))
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { lookNow(); Seal() }), 2.0, "with a look")
}

// BenchmarkStep is the step before a start, beside what else could be done, with many descriptors
// open and the limit at its maximum.
func BenchmarkStep(b *testing.B) {
	var limit unix.Rlimit
	require.NoError(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if most := uint64(1 << 20); limit.Max < most { // fs.nr_open, by default
		raised := unix.Rlimit{Cur: most, Max: most}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil { // needs CAP_SYS_RESOURCE
			defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
			limit.Max = most
		}
	}
	most := int(min(limit.Max, 1<<20))
	b.Logf("the limit is %d", most)
	for _, open := range []int{10, 1000, 10_000, 100_000} {
		if open > most-100 {
			b.Logf("%d descriptors are more than the limit", open)
			continue
		}
		var fds []int
		for len(fds) < open {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			require.NoError(b, err)
			fds = append(fds, fd)
		}
		name := fmt.Sprintf("open=%d/impl=", open)
		lookNow()
		Seal()
		b.Run(name+"seal", func(b *testing.B) {
			for b.Loop() {
				Seal()
			}
		})
		b.Run(name+"list", func(b *testing.B) { // what /proc/self/fd lists, marked one by one
			for b.Loop() {
				_ = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
					if fd >= FirstFD {
						_ = sys.SetCloseOnExec(fd)
					}
					return true
				})
			}
		})
		b.Run(name+"loop", func(b *testing.B) { // every number up to the limit
			for b.Loop() {
				for fd := FirstFD; fd < most; fd++ {
					_ = sys.SetCloseOnExec(fd)
				}
			}
		})
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}
