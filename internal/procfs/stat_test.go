package procfs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const statTail = " S 2 3 4 34816 6 4194304 7 8 9 10 11 12 13 14 20 -5 17 0 91828 3133440 389 0 0\n"

func TestParseStat(t *testing.T) {
	want := Stat{
		PID: 1234, State: 'S', PPID: 2, PGRP: 3, Session: 4, TTYNr: 34816, TPGID: 6, Flags: 4194304,
		UTime: 11, STime: 12, NumThreads: 17, StartTime: 91828,
	}
	for _, comm := range []string{
		"cat", "", " ", ")", "(", "()", ") R 1 (\n", "a) Z 1 1 1 0 -1", "\n", "\xff\x00", "((((", "))))",
		"kworker/u9:3-events_unbound_of_the_longest_name_that_there_is",
	} {
		got, err := ParseStat([]byte("1234 (" + comm + ")" + statTail))
		require.NoError(t, err, "%q", comm)
		want.Comm = comm
		assert.Equal(t, want, got)
	}
}

func TestParseStatEdges(t *testing.T) {
	// Being reaped: group and session are gone, every number at its largest.
	s, err := ParseStat([]byte("2147483647 (x) X 0 -1 -1 -2147483648 -1 4294967295 0 0 0 0 " +
		"18446744073709551615 18446744073709551615 0 0 20 0 0 0 18446744073709551615 0\n"))
	require.NoError(t, err)
	assert.Equal(t, Stat{PID: 2147483647, Comm: "x", State: 'X', PGRP: -1, Session: -1,
		TTYNr: -2147483648, TPGID: -1, Flags: 4294967295, UTime: 1<<64 - 1, STime: 1<<64 - 1,
		StartTime: 1<<64 - 1}, s)

	full := "1234 (cat)" + statTail
	start := strings.Index(full, "91828")
	for i := range start + len("91828") {
		_, err := ParseStat([]byte(full[:i]))
		assert.ErrorIs(t, err, ErrSyntax, "cut off after %q", full[:i])
	}
	_, err = ParseStat([]byte(full[:start+len("91828 ")]))
	assert.NoError(t, err)

	for _, bad := range []string{
		"", "(", ")", " ()", "1 (", "1 ()", "1 )(", "-1 (x)" + statTail, "+1 (x)" + statTail, "1(x)" + statTail,
		"2147483648 (x)" + statTail, "1 (x)" + strings.Replace(statTail, "S", "SS", 1),
		"1 (x)" + strings.Replace(statTail, "S", "1", 1), "1 (x)" + strings.Replace(statTail, " 2 ", " 2147483648 ", 1),
		"1 (x)" + strings.Replace(statTail, "91828", "18446744073709551616", 1),
		"1 (x)" + strings.Replace(statTail, "91828", "-1", 1), "1 (x)" + strings.Replace(statTail, " 3 ", " 0x3 ", 1),
	} {
		s, err := ParseStat([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
		assert.Zero(t, s)
	}
}

func TestStatAlive(t *testing.T) {
	for _, c := range []struct {
		state   byte
		threads int
		alive   bool
		dead    bool
	}{
		{'R', 1, true, false}, {'S', 1, true, false}, {'D', 1, true, false}, {'T', 1, true, false},
		{'t', 1, true, false}, {'I', 1, true, false}, {'Z', 1, false, true}, {'Z', 0, false, true},
		{'Z', 2, true, true}, {'X', 0, false, true}, {'X', 2, false, true}, {'x', 1, false, true}, {0, 0, false, false},
	} {
		s := Stat{State: c.state, NumThreads: c.threads}
		assert.Equal(t, c.alive, s.Alive(), "%c with %d threads", c.state, c.threads)
		assert.Equal(t, c.dead, s.Dead(), "%c with %d threads", c.state, c.threads)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("cat", 1, byte('S'), "1 (cat)"+statTail)
	f.Add(") R 1 (\n", 7, byte('Z'), "1 (")
	f.Add(") S 2 3 4 34816 6 4194304 7 8 9 10 11 12 13 14 20 -5 17 0 91828 ", 7, byte('R'), ") 1 (x)"+statTail)
	f.Fuzz(func(t *testing.T, comm string, pid int, state byte, raw string) {
		if s, err := ParseStat([]byte(raw)); err == nil {
			assert.Contains(t, raw, "("+s.Comm+")")
			assert.GreaterOrEqual(t, s.PID, 0)
		}
		// Whatever the name, a well-formed line gives it back and its fields are not touched.
		state = 'A' + state%26
		pid &= 1<<31 - 1
		s, err := ParseStat(fmt.Appendf(nil, "%d (%s) %c%s", pid, comm, state, statTail[2:]))
		require.NoError(t, err)
		assert.Equal(t, Stat{
			PID: pid, Comm: comm, State: state, PPID: 2, PGRP: 3, Session: 4, TTYNr: 34816, TPGID: 6,
			Flags: 4194304, UTime: 11, STime: 12, NumThreads: 17, StartTime: 91828,
		}, s)
	})
}
