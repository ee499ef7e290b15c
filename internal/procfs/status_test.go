package procfs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const statusText = `Name:	a\nb\\n)
Umask:	0022
State:	S (sleeping)
Tgid:	19926
Ngid:	0
Pid:	19927
PPid:	19788
TracerPid:	5
Uid:	0	1	2	4294967295
Gid:	3	4	5	6
FDSize:	256
Groups:	1 2 3 
NStgid:	19926	1
NSpid:	19927	7	1
Threads:	3
SigQ:	2/96365
SigPnd:	0000000000000001
ShdPnd:	0000000000004000
SigBlk:	fffffffe7ffbfeff
SigIgn:	0000000000001000
SigCgt:	8000000000000002
CapInh:	0000000000000000
NoNewPrivs:	1
Seccomp:	0
`

func TestParseStatus(t *testing.T) {
	want := Status{
		Name: "a\nb\\n)", Umask: 0o22, State: 'S', TGID: 19926, NSPID: []int{19927, 7, 1}, PPID: 19788, TracerPID: 5,
		UID: [4]uint32{0, 1, 2, 1<<32 - 1}, GID: [4]uint32{3, 4, 5, 6},
		SigPnd: 1, ShdPnd: 0x4000, SigBlk: 0xfffffffe7ffbfeff, SigIgn: 0x1000, SigCgt: 0x8000000000000002,
		Threads: 3, NoNewPrivs: 1,
	}
	s, err := ParseStatus([]byte(statusText))
	require.NoError(t, err)
	assert.Equal(t, want, s)

	old := statusText
	for _, key := range []string{"Umask", "NSpid", "NoNewPrivs"} {
		i := strings.Index(old, key)
		old = old[:i] + old[i+strings.Index(old[i:], "\n")+1:]
	}
	want.Umask, want.NSPID, want.NoNewPrivs = -1, nil, -1
	s, err = ParseStatus([]byte(old))
	require.NoError(t, err)
	assert.Equal(t, want, s, "what an old kernel does not tell")

	end := strings.Index(statusText, "\nCapInh")
	everyCut(statusText[:end+1], func(prefix []byte) {
		s, err := ParseStatus(prefix)
		assert.ErrorIs(t, err, ErrSyntax, "cut off: %q", prefix)
		assert.Zero(t, s)
	})

	s, err = ParseStatus([]byte(strings.Replace(statusText, `a\nb\\n)`, "", 1)))
	require.NoError(t, err)
	assert.Empty(t, s.Name)

	for from, to := range map[string]string{
		"S (sleeping)": "", "0022": "0028", "19788": "-", "PPid:": "PPid", "fffffffe7ffbfeff": "1fffffffe7ffbfeff",
		"4294967295": "4294967296", "3\t4\t5\t6": "3\t4\t5", "19927\t7": "19927\t-7", "NoNewPrivs:\t1": "NoNewPrivs:\t2",
		"Threads:\t3": "Threads:\t3 4",
	} {
		require.Contains(t, statusText, from)
		_, err := ParseStatus([]byte(strings.Replace(statusText, from, to, 1)))
		assert.ErrorIs(t, err, ErrSyntax, "%s for %s", to, from)
	}
}

func TestHasSignal(t *testing.T) {
	const set = 1<<0 | 1<<14 | 1<<63
	for signal, want := range map[int]bool{1: true, 15: true, 64: true, 2: false, 0: false, -1: false, 65: false, 63: false} {
		assert.Equal(t, want, HasSignal(set, signal), "%d", signal)
	}
	assert.False(t, HasSignal(^uint64(0), 0))
	assert.False(t, HasSignal(^uint64(0), 65))
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(statusText), "name")
	f.Add([]byte("Name:\n"), "\n\\\nState:\tZ")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if s, err := ParseStatus(data); err == nil {
			assert.NotZero(t, s.State)
		}
		// The name as the kernel escapes it comes back, and forges nothing.
		escaped := strings.NewReplacer("\\", `\\`, "\n", `\n`).Replace(name)
		s, err := ParseStatus([]byte(strings.Replace(statusText, `a\nb\\n)`, escaped, 1)))
		require.NoError(t, err)
		assert.Equal(t, name, s.Name)
		assert.Equal(t, byte('S'), s.State)
	})
}
