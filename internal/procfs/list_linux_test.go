package procfs

import (
	"encoding/binary"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPIDs(t *testing.T) {
	p := startSubject(t, "wait", "")
	pids, err := PIDs()
	require.NoError(t, err)
	assert.True(t, slices.IsSorted(pids))
	assert.Contains(t, pids, p.pid)
	assert.Contains(t, pids, os.Getpid())
	assert.Contains(t, pids, 1)

	// Against another reader of the same directory: whoever is in both of its listings, taken
	// before and after, is in ours.
	before := numbersIn(t, "/proc")
	pids, err = AppendPIDs([]int{9, 8, 7})
	require.NoError(t, err)
	after := numbersIn(t, "/proc")
	require.Equal(t, []int{9, 8, 7}, pids[:3], "what was there stays as it was")
	for _, pid := range before {
		if slices.Contains(after, pid) {
			assert.Contains(t, pids[3:], pid)
		}
	}
	assert.Equal(t, slices.Compact(slices.Clone(pids)), pids)
}

func numbersIn(t *testing.T, dir string) []int {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var ns []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			ns = append(ns, n)
		}
	}
	return ns
}

func TestAscending(t *testing.T) {
	assert.Equal(t, []int{1, 2, 3}, ascending([]int{3, 1, 2, 1, 3}))
	assert.Empty(t, ascending(nil))
}

func TestThreads(t *testing.T) {
	p := startSubject(t, "wait", "")
	eventually(t, func() bool { // the runtime of the subject makes a thread when it likes to
		before := numbersIn(t, "/proc/"+strconv.Itoa(p.pid)+"/task")
		tids, err := Threads(p.pid)
		require.NoError(t, err)
		assert.True(t, slices.IsSorted(tids))
		assert.Contains(t, tids, p.pid)
		return slices.Equal(slices.Sorted(slices.Values(before)), tids)
	}, "the threads that another reader finds")
	_, err := Threads(0)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// dirent builds a struct linux_dirent64.
func dirent(name string, pad int) []byte {
	b := make([]byte, 19, 19+len(name)+1+pad)
	b = append(append(b, name...), make([]byte, 1+pad)...)
	binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
	return b
}

func TestEachNumber(t *testing.T) {
	collect := func(b []byte) (ns []int) {
		assert.True(t, eachNumber(b, func(n int) bool {
			ns = append(ns, n)
			return true
		}))
		return ns
	}
	var b []byte
	for _, name := range []string{".", "..", "self", "1", "007", "0", "12a", "-1", "2147483647", "2147483648", "", "34"} {
		b = append(b, dirent(name, len(name)%8)...)
	}
	assert.Equal(t, []int{1, 0, 2147483647, 34}, collect(b))

	ten := dirent("10", 0)
	assert.Equal(t, []int{10}, collect(ten))
	assert.Empty(t, collect(ten[:len(ten)-1]), "longer than the buffer")
	assert.Empty(t, collect(nil))
	zero := slices.Clone(ten)
	binary.NativeEndian.PutUint16(zero[16:], 0)
	assert.Empty(t, collect(append(zero, ten...)), "must not loop on a length of 0")
	unended := slices.Clone(ten)
	unended[len(unended)-1] = '9'
	assert.Empty(t, collect(unended), "name without its end")
	assert.False(t, eachNumber(ten, func(int) bool { return false }))
}

func FuzzEachNumber(f *testing.F) {
	f.Add(append(dirent("10", 5), dirent("self", 1)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		count := 0
		eachNumber(data, func(n int) bool {
			assert.GreaterOrEqual(t, n, 0)
			count++
			return true
		})
		assert.LessOrEqual(t, count, len(data)/20)
	})
}

func TestReadLoadavg(t *testing.T) {
	before, err := ReadKernelStat()
	require.NoError(t, err)
	p := startSubject(t, "wait", "")
	l, err := ReadLoadavg()
	require.NoError(t, err)
	assert.Positive(t, l.LastPID)
	assert.Positive(t, l.Tasks)
	after, err := ReadKernelStat()
	require.NoError(t, err)
	assert.Greater(t, after.Forks, before.Forks)
	assert.InDelta(t, before.BootTime, after.BootTime, 2)
	assert.NotZero(t, p.pid)
}

func BenchmarkPIDs(b *testing.B) {
	b.ReportAllocs()
	var pids []int
	for b.Loop() {
		pids, _ = AppendPIDs(pids[:0])
	}
	b.ReportMetric(float64(len(pids)), "pids")
}
