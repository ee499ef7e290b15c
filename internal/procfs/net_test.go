package procfs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseAddrPort(t *testing.T) {
	// The same addresses as a little-endian and as a big-endian kernel print them.
	for _, c := range []struct{ little, big, want string }{
		{"0100007F:1F90", "7F000001:1F90", "127.0.0.1:8080"},
		{"00000000:0000", "00000000:0000", "0.0.0.0:0"},
		{"0201A8C0:FFFF", "C0A80102:FFFF", "192.168.1.2:65535"},
		{"00000000000000000000000001000000:A8CD", "00000000000000000000000000000001:A8CD", "[::1]:43213"},
		{"B80D01200100000002000000EFCDAB89:0001", "20010DB8000000010000000289ABCDEF:0001", "[2001:db8:0:1:0:2:89ab:cdef]:1"},
		{"0000000000000000FFFF00000100007F:0016", "00000000000000000000FFFF7F000001:0016", "[::ffff:127.0.0.1]:22"},
	} {
		want := netip.MustParseAddrPort(c.want)
		got, ok := parseAddrPort([]byte(c.little), binary.LittleEndian)
		assert.True(t, ok)
		assert.Equal(t, want, got)
		got, ok = parseAddrPort([]byte(c.big), binary.BigEndian)
		assert.True(t, ok)
		assert.Equal(t, want, got)
	}
	for _, bad := range []string{"", ":", "0100007F", "0100007F:", ":1F90", "0100007:1F90", "0100007G:1F90", "0100007F:1F90F",
		"0100007F0100007F:1F90", "0100007F:G", "00000000000000000000000001000000000000000:1", "-100007F:1"} {
		_, ok := parseAddrPort([]byte(bad), binary.LittleEndian)
		assert.False(t, ok, "%q", bad)
	}
}

// word prints 4 bytes of an address as this machine's kernel would.
func word(b ...byte) string { return fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b)) }

func TestParseSocket(t *testing.T) {
	local, remote := word(127, 0, 0, 1), word(10, 0, 0, 9)
	row := "   7: " + local + ":1F90 " + remote + ":01BB 01 0000000A:00000138 02:00000F3C 00000000  1000        0 128616 2 00000000 21"
	want := Socket{Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("10.0.0.9:443"),
		State: 1, TxQueue: 10, RxQueue: 0x138, UID: 1000, Inode: 128616}
	s, err := ParseSocket([]byte(row))
	require.NoError(t, err)
	assert.Equal(t, want, s)
	assert.Equal(t, "ESTABLISHED", s.State.String())

	six := strings.Repeat(word(0, 0, 0, 0), 3) + word(0, 0, 0, 1)
	s, err = ParseSocket([]byte("12345: " + six + ":A8CD " + six + ":0000 0A 00000000:00000000 00:00000000 00000000 4294967295 0 0"))
	require.NoError(t, err)
	assert.Equal(t, netip.MustParseAddrPort("[::1]:43213"), s.Local)
	assert.Equal(t, uint32(1<<32-1), s.UID)

	everyCut(row[:strings.Index(row, "128616")], func(prefix []byte) {
		_, err := ParseSocket(prefix)
		assert.ErrorIs(t, err, ErrSyntax, "%q", prefix)
	})
	for from, to := range map[string]string{
		"7:": "7", "1F90": "1F9G", " 01 ": " 100 ", "0000000A:": "0000000A", ":00000138": ":100000000",
		"128616": "18446744073709551616", remote: six, "1000 ": "-1 ",
	} {
		_, err := ParseSocket([]byte(strings.Replace(row, from, to, 1)))
		assert.ErrorIs(t, err, ErrSyntax, "%s for %s", to, from)
	}

	heading := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	rows, err := ParseSockets([]byte(heading + row + "\n" + row + "   \n"))
	require.NoError(t, err)
	assert.Equal(t, []Socket{want, want}, rows)
	rows, err = ParseSockets([]byte(row + "\n" + heading + row + "\n"))
	assert.ErrorIs(t, err, ErrSyntax, "a heading in the middle")
	assert.Len(t, rows, 2)

	for state, name := range map[SocketState]string{0: "state 0", 1: "ESTABLISHED", 6: "TIME_WAIT", 10: "LISTEN",
		12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE", 14: "state 14", 255: "state 255"} {
		assert.Equal(t, name, state.String())
	}
}

const unixHeading = "Num       RefCount Protocol Flags    Type St Inode Path\n"

func TestParseUnixSockets(t *testing.T) {
	rows, err := ParseUnixSockets([]byte(unixHeading +
		"00000000a14b1cf5: 00000003 00000000 00000000 0001 03   646\n" +
		"0000000000000000: 00000002 00000000 00010000 0005 01 128612 /run/a b  c\n" +
		"d98c0be1: 00000002 00000000 00000000 0002 01 18446744073709551615 @a\n\nb\n" +
		"d98c0be1: 00000002 00000000 00000000 000A 04     0 @\n"))
	require.NoError(t, err)
	assert.Equal(t, []UnixSocket{
		{Inode: 646, Type: 1, State: 3},
		{Inode: 128612, Type: 5, State: 1, Listening: true, Path: "/run/a b  c"},
		{Inode: 1<<64 - 1, Type: 2, State: 1, Path: "@a\n\nb"},
		{Type: 10, State: 4, Path: "@"},
	}, rows)
	assert.Equal(t, "STREAM SEQPACKET DGRAM type 10", fmt.Sprint(rows[0].Type, " ", rows[1].Type, " ", rows[2].Type, " ", rows[3].Type))
	assert.Equal(t, "CONNECTED UNCONNECTED DISCONNECTING state 9", fmt.Sprint(rows[0].State, " ", rows[1].State, " ", rows[3].State, " ", UnixState(9)))

	const row = "d98c0be1: 00000002 00000000 00000000 0002 01 7"
	_, err = ParseUnixSocket([]byte(row))
	require.NoError(t, err)
	everyCut(row, func(prefix []byte) {
		_, err := ParseUnixSocket(prefix)
		assert.ErrorIs(t, err, ErrSyntax, "%q", prefix)
	})
	for _, bad := range []string{"x" + row, strings.Replace(row, " 0002 ", " 10002 ", 1), strings.Replace(row, ":", "", 1), row + "x"} {
		_, err := ParseUnixSocket([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
	}
	rows, err = ParseUnixSockets([]byte("odd\n" + row + " /x\n" + row + "8"))
	assert.ErrorIs(t, err, ErrSyntax)
	assert.Equal(t, []UnixSocket{{Inode: 7, Type: 2, State: 1, Path: "/x"}}, rows)

	// What continues a path is bounded, and does not continue a row that was not wanted.
	rows, err = ParseUnixSockets([]byte(row + " @a\n" + strings.Repeat("long\n", 1000)))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(rows[0].Path), maxUnixPath)
	table := unixTable{wanted: func(inode uint64) bool { return inode == 7 }}
	for _, line := range []string{row + " @a", row + "8 @b", "c"} {
		assert.True(t, table.add([]byte(line)))
	}
	assert.Equal(t, []UnixSocket{{Inode: 7, Type: 2, State: 1, Path: "@a"}}, table.rows)
}

func FuzzNet(f *testing.F) {
	f.Add([]byte("   7: 0100007F:1F90 0900000A:01BB 01 0000000A:00000138 02:00000F3C 00000000  1000        0 128616 2\n"))
	f.Add([]byte(unixHeading + "d98c0be1: 00000002 00000000 00000000 0002 01 7 @a\nb\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sockets, _ := ParseSockets(data)
		for _, s := range sockets {
			assert.True(t, s.Local.IsValid() && s.Remote.IsValid())
			assert.NotEmpty(t, s.State.String())
		}
		rows, _ := ParseUnixSockets(data)
		for _, r := range rows {
			assert.Contains(t, string(data), r.Path)
		}
	})
}
