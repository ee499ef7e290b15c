package procfs

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseFDInfo(t *testing.T) {
	const plain = "pos:\t-1\nflags:\t02100001\nmnt_id:\t27\nino:\t9994257\n"
	want := FDInfo{Pos: -1, Flags: 0o2100001, MountID: 27, Inode: 9994257}
	i, err := ParseFDInfo([]byte(plain))
	require.NoError(t, err)
	assert.Equal(t, want, i)
	assert.True(t, i.CanWrite())
	assert.False(t, i.CanRead())
	assert.True(t, i.CloseOnExec())

	i, err = ParseFDInfo([]byte("pos:\t0\nflags:\t00\n"))
	require.NoError(t, err, "older kernels say no more")
	assert.Equal(t, FDInfo{}, i)

	for pid, want := range map[string]int{"77": 77, "-1": -1, "0": 0} {
		i, err := ParseFDInfo([]byte(plain + "Pid:\t" + pid + "\nNSpid:\t7\t1\n"))
		require.NoError(t, err)
		assert.True(t, i.Pidfd)
		assert.Equal(t, want, i.PID)
	}

	i, err = ParseFDInfo([]byte(plain +
		"tfd:        5 events:       19 data: ffffffffffffffff  pos:0 ino:1f65d sdev:f\n" +
		"tfd:       12 events: 80000001 data:               a\n" +
		"lock:\t1: FLOCK  ADVISORY  READ 19928 fe:00:9994257 0 EOF\nsigmask:\tzz\ncolons: : :\nno colon\n"))
	require.NoError(t, err)
	want.Epoll = []EpollTarget{{5, 0x19, 1<<64 - 1, 0x1f65d}, {12, 0x80000001, 10, 0}}
	want.Locks = []Lock{{ID: 1, Kind: LockFlock, Mode: LockRead, PID: 19928, Major: 0xfe, Inode: 9994257, End: math.MaxInt64}}
	assert.Equal(t, want, i)

	everyCut(plain, func(prefix []byte) {
		if !strings.HasSuffix(string(prefix), "\n") || strings.Count(string(prefix), "\n") < 2 {
			_, err := ParseFDInfo(prefix)
			assert.ErrorIs(t, err, ErrSyntax, "%q", prefix)
		}
	})
	for _, bad := range []string{"Pid:\tx\n", "Pid:\n", "tfd: -1 events: 1 data: 2\n", "tfd: 1 event: 1 data: 2\n",
		"tfd: 1 events: 1 date: 2\n", "tfd: 1 events: g data: 2\n", "tfd: 1 events: 1 data: 2 pos:0 ino:x\n", "lock:\t1: x\n",
		"mnt_id:\tx\n", "ino:\t-1\n", "flags:\t8\n", "flags:\t040000000000\n", "pos:\t9223372036854775808\n"} {
		i, err := ParseFDInfo([]byte(plain + bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
		assert.Zero(t, i)
	}
}

func TestFDInfoAccess(t *testing.T) {
	for flags, want := range map[uint32][2]bool{ // read, write
		0: {true, false}, 1: {false, true}, 2: {true, true}, 3: {false, false},
		0o4000: {true, false}, 0o2004001: {false, true}, 0o10000000: {false, false}, 0o10000002: {false, false},
	} {
		i := FDInfo{Flags: flags}
		assert.Equal(t, want, [2]bool{i.CanRead(), i.CanWrite()}, "%o", flags)
	}
	assert.False(t, FDInfo{Flags: 0o100001}.CloseOnExec())
}

func TestParseLock(t *testing.T) {
	for line, want := range map[string]Lock{
		"1: POSIX  ADVISORY  WRITE 723 00:18:1234 0 EOF": {
			ID: 1, Kind: LockPOSIX, Mode: LockWrite, PID: 723, Minor: 0x18, Inode: 1234, End: math.MaxInt64},
		"12:  -> POSIX  ADVISORY  READ 720 fe:100:1234 7 4611686018427387903": {
			ID: 12, Blocked: true, Kind: LockPOSIX, Mode: LockRead, PID: 720, Major: 0xfe, Minor: 0x100, Inode: 1234,
			Start: 7, End: 4611686018427387903},
		"2: OFDLCK ADVISORY  READ -1 00:18:1 0 0":          {ID: 2, Kind: LockOFD, Mode: LockRead, PID: -1, Minor: 0x18, Inode: 1},
		"3: LEASE  ACTIVE    READ 5 00:18:1 0 EOF":         {ID: 3, Kind: LockLease, Mode: LockRead, PID: 5, Minor: 0x18, Inode: 1, End: math.MaxInt64},
		"3: DELEG  BREAKING  UNLCK 5 00:18:1 0 EOF":        {ID: 3, Kind: LockDeleg, PID: 5, Minor: 0x18, Inode: 1, End: math.MaxInt64},
		"4: ACCESS MANDATORY RW 5 <none>:0 0 EOF":          {ID: 4, Kind: LockPOSIX, Mode: LockReadWrite, PID: 5, End: math.MaxInt64},
		"5: FLOCK  MSNFS     READ  0 00:18:1 0 EOF":        {ID: 5, Kind: LockFlock, Mode: LockRead, Minor: 0x18, Inode: 1, End: math.MaxInt64},
		"6: UNKNOWN UNKNOWN  WRITE 9 00:18:1 0 EOF":        {ID: 6, Kind: LockOther, Mode: LockWrite, PID: 9, Minor: 0x18, Inode: 1, End: math.MaxInt64},
		"7: POSIX  *NOINODE* WRITE 9 <none>:0 10 20":       {ID: 7, Kind: LockPOSIX, Mode: LockWrite, PID: 9, Start: 10, End: 20},
		"8: FLOCK  ADVISORY  READ 9 ffffff:ff:1 0 EOF    ": {ID: 8, Kind: LockFlock, Mode: LockRead, PID: 9, Major: 0xffffff, Minor: 0xff, Inode: 1, End: math.MaxInt64},
	} {
		l, err := ParseLock([]byte(line))
		require.NoError(t, err, line)
		assert.Equal(t, want, l)
	}
	const good = "1: POSIX  ADVISORY  WRITE 723 00:18:1234 0 EOF"
	everyCut(good, func(prefix []byte) {
		_, err := ParseLock(prefix)
		assert.ErrorIs(t, err, ErrSyntax, "%q", prefix)
	})
	for from, to := range map[string]string{"1:": "1", "723": "x", "00:18:1234": "00:18", "1234": "-1", "18": "g", "EOF": "EOF 1", " 0 ": " x "} {
		_, err := ParseLock([]byte(strings.Replace(good, from, to, 1)))
		assert.ErrorIs(t, err, ErrSyntax, "%s for %s", to, from)
	}
	locks, err := ParseLocks([]byte(good + "\nodd\n1: -> FLOCK  ADVISORY  READ 9 00:01:1 0 EOF\n"))
	assert.ErrorIs(t, err, ErrSyntax)
	require.Len(t, locks, 2)
	assert.True(t, locks[1].Blocked)
	assert.Equal(t, "FLOCK READ, POSIX WRITE, OTHER NONE", fmt.Sprintf("%s %s, %s %s, %s %s",
		locks[1].Kind, locks[1].Mode, locks[0].Kind, locks[0].Mode, LockKind(99), LockMode(99)))
}

func FuzzParseFDInfo(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t02\nmnt_id:\t1\nPid:\t-1\ntfd: 5 events: 19 data: 5  pos:0 ino:1f sdev:f\n" +
		"lock:\t1: FLOCK  ADVISORY  READ 19928 fe:00:9994257 0 EOF\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseFDInfo(data)
		if err == nil {
			assert.True(t, len(i.Epoll)+len(i.Locks) <= len(data)/5)
			assert.True(t, i.Pidfd || i.PID == 0)
		}
	})
}

func FuzzParseLocks(f *testing.F) {
	f.Add([]byte("1: POSIX  ADVISORY  WRITE 723 00:18:1234 0 EOF\n1: -> FLOCK  ADVISORY  READ 9 <none>:0 0 7\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		locks, _ := ParseLocks(data)
		for _, l := range locks {
			end := fmt.Sprint(l.End)
			if l.End == math.MaxInt64 {
				end = "EOF"
			}
			arrow := ""
			if l.Blocked {
				arrow = "-> "
			}
			again, err := ParseLock(fmt.Appendf(nil, "%d: %s%s ADVISORY %s %d %x:%x:%d %d %s",
				l.ID, arrow, l.Kind, l.Mode, l.PID, l.Major, l.Minor, l.Inode, l.Start, end))
			require.NoError(t, err)
			assert.Equal(t, l, again)
		}
	})
}
