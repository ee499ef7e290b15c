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
	found := Survey(nil)
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
	if marksRanges() {
		assert.Nil(t, found.Marked)
	} else {
		assert.Contains(t, nums(found.Marked), c)
	}
	lookNow()
}

// marksRanges reports whether the kernel marks them in one call, since Linux 5.11, and it was not forced off.
func marksRanges() bool { return sys.MarkRange(1<<20, 1<<20) == nil }

// TestSealAround leaves declared descriptors at the beginning, in the middle and side by side.
func TestSealAround(t *testing.T) {
	fds := []int{leak(t), leak(t), leak(t), leak(t), leak(t), leak(t)}
	slices.Sort(fds)
	left := []int{fds[0], fds[2], fds[3], fds[5]}
	var d []declared
	for _, fd := range left {
		d = append(d, declared{fd: fd, variable: "X"})
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
			if marksRanges() || listed != nil {
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

// TestDeclarations asks the child's environment, and takes declarations back in each way there is.
func TestDeclarations(t *testing.T) {
	var p [2]int
	require.NoError(t, unix.Pipe2(p[:], 0))
	defer unix.Close(p[0])
	file := leak(t)
	b := make(born)
	for _, fd := range []int{p[0], p[1], file} {
		was, err := sys.FileOf(fd)
		require.NoError(t, err)
		b[fd] = was
	}
	env := func(r, w int) []string {
		return []string{"MAKEFLAGSX=", "MAKEFLAGS=", "A", fmt.Sprintf("MAKEFLAGS=-j --jobserver-auth=%d,%d", r, w)}
	}
	both := []declared{{p[0], "MAKEFLAGS"}, {p[1], "MAKEFLAGS"}}
	assert.Equal(t, both, b.declaredBy(env(p[1], p[0])), "in ascending order")
	assert.Equal(t, both, b.declaredBy(append(env(p[0], p[1]), "CARGO_"+env(p[0], p[1])[3])), "each once")
	assert.Empty(t, b.declaredBy([]string{}), "another environment")
	assert.Empty(t, b.declaredBy(append(env(p[0], p[1]), "MAKEFLAGS=-j")), "the last one counts")
	assert.Empty(t, b.declaredBy(env(file, file)), "no pipe")
	assert.Empty(t, born{}.declaredBy(env(p[0], p[1])), "opened since")
	t.Setenv("MAKEFLAGS", env(p[0], p[1])[3][len("MAKEFLAGS="):])
	assert.Equal(t, both, b.declaredBy(nil), "nil is our own")
	for _, variable := range []string{"LISTEN_FDS", "LISTEN_PID"} {
		t.Setenv(variable, fmt.Sprint(os.Getpid()))
	}
	assert.Equal(t, both, b.declaredBy(nil), "LISTEN_FDS are for us alone")
	require.NoError(t, unix.Dup3(file, p[1], 0))
	assert.Equal(t, both[:1], b.declaredBy(env(p[0], p[1])), "the number is another file's")
	unix.Close(p[1])
	assert.Equal(t, both[:1], b.declaredBy(env(p[0], p[1])), "it was closed")
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
