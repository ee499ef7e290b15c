package procfs

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseUsage(t *testing.T) {
	line := "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 11 12 13 14 20 0 1 0 91828 4096 55 18446744073709551615\n"
	used, err := ParseUsage([]byte(line))
	require.NoError(t, err)
	assert.Equal(t, Usage{User: 24, System: 26, Pages: 55, StartTime: 91828}, used)
	for _, bad := range []string{"", "7 (a) S 1", strings.Replace(line, "13", "x", 1), strings.Replace(line, "55", "-", 1)} {
		_, err := ParseUsage([]byte(bad))
		assert.Error(t, err, bad)
	}
}

// TestReadUsage compares it with the other readers of the same file.
func TestReadUsage(t *testing.T) {
	used, err := ReadUsage(os.Getpid())
	require.NoError(t, err)
	st, err := ReadStat(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, st.StartTime, used.StartTime)
	assert.Positive(t, used.Pages)
}

func TestParsePeak(t *testing.T) {
	n, err := ParsePeak([]byte("Name:\ta\nVmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"))
	require.NoError(t, err)
	assert.Equal(t, int64(2<<20), n)
	n, err = ParsePeak([]byte("Name:\tVmHWM:\\n\nState:\tZ (zombie)\n"))
	require.NoError(t, err)
	assert.Zero(t, n, "a zombie has none")
	for _, bad := range []string{"VmHWM:\n", "VmHWM:\t1\n", "VmHWM:\t-1 kB\n", "VmHWM:\t1 MB\n", "VmHWM:\t99999999999999999999 kB\n"} {
		_, err := ParsePeak([]byte(bad))
		assert.Error(t, err, bad)
	}
}

func TestReadPeak(t *testing.T) {
	n, err := ReadPeak(Self)
	require.NoError(t, err)
	used, err := ReadUsage(os.Getpid())
	require.NoError(t, err)
	assert.Positive(t, n)
	assert.Positive(t, used.Pages)
}
