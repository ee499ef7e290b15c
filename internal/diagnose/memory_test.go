package diagnose

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func timespec(sec, nsec int64) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(sec))
	return binary.NativeEndian.AppendUint64(b, uint64(nsec))
}

func TestParseTimespec(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 90*time.Second+5, parseTimespec(timespec(90, 5)))
	assert.Zero(t, parseTimespec(timespec(0, 0)))
	assert.Equal(t, time.Duration(math.MaxInt64), parseTimespec(timespec(math.MaxInt64, 999999999)))
	for _, bad := range [][]byte{timespec(-1, 0), timespec(0, -1), timespec(0, 1e9)} {
		assert.Equal(t, time.Duration(-1), parseTimespec(bad))
	}
}

func TestMillis(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 1500*time.Millisecond, millis(1500))
	assert.Equal(t, time.Duration(-1), millis(math.MaxUint32), "-1 is for ever")
	assert.Equal(t, time.Duration(-1), millis(math.MaxUint64))
	assert.Zero(t, millis(1<<32), "the rest of the register is nothing of it")
}

func TestFutexOwner(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 77, futexOwner(futexWait, 2, 2, 77), "a mutex of glibc")
	assert.Zero(t, futexOwner(futexWait, 2, 0, 77), "it was released")
	assert.Equal(t, 88, futexOwner(futexWaitBitset, 88, 88, 0), "pthread_join")
	assert.Zero(t, futexOwner(futexWaitBitset, 88, 0, 0), "the thread has ended")
	assert.Equal(t, 99, futexOwner(futexLockPI, 0, 99|1<<31, 0), "with waiters")
	assert.Zero(t, futexOwner(futexWait, 0, 0, 0))
}

func TestParsePollFDs(t *testing.T) {
	t.Parallel()
	entry := func(fd int32, events uint16) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(fd))
		b = binary.NativeEndian.AppendUint16(b, events)
		return append(b, 0xff, 0xff)
	}
	b := append(entry(3, 1), entry(-1, 1)...)
	b = append(b, entry(4, 4)...)
	b = append(b, entry(5, 5)...)
	assert.Equal(t, []watched{{3, WaitRead}, {4, WaitWrite}, {5, WaitRead}}, parsePollFDs(b))
	assert.Empty(t, parsePollFDs(b[:7]))
}

func TestParseFDSet(t *testing.T) {
	t.Parallel()
	b := make([]byte, fdSetSize(70))
	assert.Len(t, b, 16)
	binary.NativeEndian.PutUint64(b, 1<<0|1<<5|1<<63)
	binary.NativeEndian.PutUint64(b[8:], 1<<1|1<<60)
	assert.Equal(t, []int{0, 5, 63, 65}, parseFDSet(b, 70))
	assert.Equal(t, []int{0, 5, 63}, parseFDSet(b[:8], 70))
}

// FuzzMemory has no memory of another process trip what reads it.
func FuzzMemory(f *testing.F) {
	f.Add(timespec(1, 2), 10)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		for _, w := range parsePollFDs(b) {
			if w.fd < 0 || w.wait != WaitRead && w.wait != WaitWrite {
				t.Errorf("%+v", w)
			}
		}
		for _, fd := range parseFDSet(b, n%maxPolled) {
			if fd < 0 || fd >= n%maxPolled {
				t.Errorf("%d of %d", fd, n)
			}
		}
		if len(b) >= 16 && parseTimespec(b) < -1 {
			t.Error(parseTimespec(b))
		}
	})
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0ms", 999 * time.Microsecond: "0ms", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m1s",
		25 * time.Hour: "1d1h", 3*time.Hour + 4*time.Minute: "3h4m", math.MaxInt64: "ever",
	} {
		assert.Equal(t, want, Span(d))
	}
}
