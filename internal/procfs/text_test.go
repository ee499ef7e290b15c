package procfs

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseUintAgreesWithStrconv(t *testing.T) {
	for _, s := range []string{"", "0", "00", "7", "-1", "+1", " 1", "1 ", "1_0", "0x1", "ff", "FF", "8", "255", "256",
		"4294967295", "4294967296", "18446744073709551615", "18446744073709551616", "99999999999999999999999", "ffffffffffffffff",
		"10000000000000000", "777", "１"} {
		for _, base := range []uint{8, 10, 16} {
			for _, bits := range []uint{1, 2, 3, 8, 31, 32, 64} {
				want, err := strconv.ParseUint(s, int(base), int(bits))
				got, ok := parseUint([]byte(s), base, bits)
				assert.Equal(t, err == nil, ok, "%q in base %d, %d bits", s, base, bits)
				if ok {
					assert.Equal(t, want, got, "%q in base %d, %d bits", s, base, bits)
				}
			}
		}
	}
	for _, s := range []string{"-2147483648", "2147483647", "-2147483649", "2147483648", "-", "", "--1", "-0", "0",
		"-9223372036854775808", "9223372036854775807", "9223372036854775808", "-9223372036854775809"} {
		for _, bits := range []uint{32, 64} {
			want, err := strconv.ParseInt(s, 10, int(bits))
			got, ok := parseInt([]byte(s), bits)
			assert.Equal(t, err == nil, ok, "%q, %d bits", s, bits)
			if ok {
				assert.Equal(t, want, got, "%q, %d bits", s, bits)
			}
		}
	}
	require.NoError(t, quick.Check(func(v uint64, i int64) bool {
		a, ok1 := parseUint([]byte(strconv.FormatUint(v, 10)), 10, 64)
		b, ok2 := parseHex(fmt.Appendf(nil, "%#x", v))
		c, ok3 := parseInt([]byte(strconv.FormatInt(i, 10)), 64)
		return ok1 && ok2 && ok3 && a == v && b == v && c == i
	}, nil))
	_, ok := parseHex([]byte("ff"))
	assert.False(t, ok)
}

func TestCutField(t *testing.T) {
	line := []byte(" \t a  b\tc ")
	var fields []string
	for {
		var f []byte
		if f, line = cutField(line); len(f) == 0 {
			break
		}
		fields = append(fields, string(f))
	}
	assert.Equal(t, []string{"a", "b", "c"}, fields)
	n := numbers{line: []byte("1 2")}
	n.skip(2)
	assert.False(t, n.bad)
	n.skip(1)
	assert.True(t, n.bad)
}

func TestTicks(t *testing.T) {
	assert.Equal(t, 1230*time.Millisecond, Ticks(123))
	assert.Equal(t, time.Duration(math.MaxInt64), Ticks(math.MaxUint64))
	assert.Equal(t, time.Duration(math.MaxInt64/int64(10*time.Millisecond))*10*time.Millisecond,
		Ticks(math.MaxInt64/uint64(10*time.Millisecond)))
}

func TestPaths(t *testing.T) {
	for want, f := range map[string]file{
		"/proc/":                   {},
		"/proc/loadavg":            {name: "loadavg"},
		"/proc/0/stat":             {place: inProcess, name: "stat"},
		"/proc/-1/stat":            {place: inProcess, pid: -1, name: "stat"},
		"/proc/12/fdinfo/3":        {place: inProcess, pid: 12, name: "fdinfo/3"},
		"/proc/self/task/34/stat":  {place: inThread, pid: Self, tid: 34, name: "stat"},
		"/proc/12/task/-1/syscall": {place: inThread, pid: 12, tid: -1, name: "syscall"},
	} {
		assert.Equal(t, want, string(f.appendPath(nil)))
	}
}

func TestParseLoadavg(t *testing.T) {
	l, err := ParseLoadavg([]byte("0.20 0.18 0.12 3/80 11206\n"))
	require.NoError(t, err)
	assert.Equal(t, Loadavg{Running: 3, Tasks: 80, LastPID: 11206}, l)
	for _, bad := range []string{
		"", "\n", "0.20 0.18 0.12 1/80 11206", "0.20 0.18 0.12 1/80\n", "0.20 0.18 0.12 180 11206\n",
		"0.20 0.18 0.12 1/ 11206\n", "0.20 0.18 0.12 /80 11206\n", "0.20 0.18 0.12 1/80 -1\n",
		"0.20 0.18 0.12 1/80 2147483648\n", "0.20 0.18 0.12 1/80 1 2\n", "0.20 0.18 1/80 1 2\n",
	} {
		_, err := ParseLoadavg([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
	}
}

func TestParseKernelStat(t *testing.T) {
	const good = "cpu  1 2 3 4 5 6 7 8 9 10\nintr 5 0 0\nctxt 9\nbtime 1700000000\nprocesses 26442\nprocs_running 1\n"
	s, err := ParseKernelStat([]byte(good))
	require.NoError(t, err)
	assert.Equal(t, KernelStat{Forks: 26442, BootTime: 1700000000, System: 3 + 6 + 7}, s)
	cut := strings.Index(good, "\nprocs_running")
	for i := range cut + 1 {
		_, err := ParseKernelStat([]byte(good[:i]))
		assert.ErrorIs(t, err, ErrSyntax, "cut off after %d", i)
	}
	for _, bad := range []string{"btime 1\nprocesses x\n", "btime -1\nprocesses 1\n", "xbtime 1\nprocesses 1\n",
		"btime 1\nprocesses 1 2\n", "btime 1\nprocesses 18446744073709551616\n"} {
		_, err := ParseKernelStat([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
	}
}

func FuzzParseLoadavg(f *testing.F) {
	f.Add([]byte("0.20 0.18 0.12 3/80 11206\n"))
	f.Add([]byte("0 0 0 / \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := ParseLoadavg(data); err == nil {
			again, err := ParseLoadavg(fmt.Appendf(nil, "0 0 0 %d/%d %d\n", l.Running, l.Tasks, l.LastPID))
			require.NoError(t, err)
			assert.Equal(t, l, again)
		}
	})
}

func FuzzParseKernelStat(f *testing.F) {
	f.Add([]byte("btime 1700000000\nprocesses 26442\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseKernelStat(data); err == nil {
			again, err := ParseKernelStat(fmt.Appendf(nil, "btime %d\nprocesses %d\n", s.BootTime, s.Forks))
			require.NoError(t, err)
			assert.Equal(t, s, again)
		}
	})
}
