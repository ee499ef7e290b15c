package procfs

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseChildren(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "1 ": {1}, "12 3 2147483647 ": {12, 3, 2147483647}} {
		got, err := ParseChildren([]byte(text))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for text, want := range map[string][]int{"12": nil, "12 3": {12}, "12 x 3 ": {12}, "12 -3 ": {12}, "2147483648 ": nil} {
		got, err := ParseChildren([]byte(text))
		assert.ErrorIs(t, err, ErrSyntax, "%q", text)
		assert.Equal(t, want, got)
	}
}

const limitsText = `Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            20000                4000000              files     
Max nice priority         0                    0                    
Max realtime timeout      4611686018427387999  18446744073709551614 us        
`

func TestParseLimits(t *testing.T) {
	limits, err := ParseLimits([]byte(limitsText))
	require.NoError(t, err)
	assert.Equal(t, []Limit{
		{"Max cpu time", Unlimited, Unlimited}, {"Max open files", 20000, 4000000}, {"Max nice priority", 0, 0},
		{LimitRTTime, 4611686018427387999, 18446744073709551614},
	}, limits)
	for _, l := range limits {
		soft, hard, ok := LookupLimit([]byte(limitsText), l.Name)
		assert.True(t, ok)
		assert.Equal(t, []uint64{l.Soft, l.Hard}, []uint64{soft, hard})
	}
	for _, name := range []string{"", "Max", "Max open files ", "Limit", "max open files"} {
		_, _, ok := LookupLimit([]byte(limitsText), name)
		assert.False(t, ok, "%q", name)
	}
	everyCut(limitsText, func(prefix []byte) {
		_, _, ok := LookupLimit(prefix, LimitRTTime)
		assert.False(t, ok, "half of a number is another number")
		if !strings.HasSuffix(string(prefix), "\n") || strings.Count(string(prefix), "\n") < 2 {
			_, err := ParseLimits(prefix)
			assert.ErrorIs(t, err, ErrSyntax)
		}
	})
	for _, row := range []string{"Max open files 1 2 files", strings.Repeat(" ", 26) + "1 2", "Max x", "", strings.Repeat("x", 25) + "1 2 us",
		"Max open files            -1                   2\n", "Max open files            1\n"} {
		limits, err := ParseLimits([]byte(limitsText + row + "\n"))
		assert.ErrorIs(t, err, ErrSyntax, "%q", row)
		assert.Len(t, limits, 4)
	}
}

func TestParseCGroups(t *testing.T) {
	groups, err := ParseCGroups([]byte("9:name=systemd:/\n3:cpu,cpuacct:/a:b c (deleted)\n0::/../x\n"))
	require.NoError(t, err)
	assert.Equal(t, []CGroup{
		{9, []string{"name=systemd"}, "/"}, {3, []string{"cpu", "cpuacct"}, "/a:b c (deleted)"}, {0, nil, "/../x"},
	}, groups)
	for _, bad := range []string{"0:/\n", "x::/\n", "-1::/\n", "0::\n", "0::x\n", "\n", "0::/"} {
		groups, err := ParseCGroups([]byte("1:a:/b\n" + bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
		assert.Equal(t, []CGroup{{1, []string{"a"}, "/b"}}, groups)
	}
}

func TestParseMount(t *testing.T) {
	for line, want := range map[string]Mount{
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": {
			ID: 36, Parent: 35, Major: 98, Root: "/mnt1", MountPoint: "/mnt2", Options: "rw,noatime",
			Optional: []string{"master:1"}, FSType: "ext3", Source: "/dev/root", SuperOptions: "rw,errors=continue",
		},
		`1 1 0:21 / /a\040b\011\012\134040\043 ro - tmpfs  rw`: {
			ID: 1, Parent: 1, Minor: 21, Root: "/", MountPoint: "/a b\t\n\\040#", Options: "ro", FSType: "tmpfs", SuperOptions: "rw",
		},
		`1 2 0:21 /x//deleted /\04\777\08 rw shared:1 master:2 unbindable - fuse.x a\134 `: {
			ID: 1, Parent: 2, Minor: 21, Root: "/x//deleted", MountPoint: `/\04\777\08`, Options: "rw",
			Optional: []string{"shared:1", "master:2", "unbindable"}, FSType: "fuse.x", Source: `a\`,
		},
		"1 2 0:3 / /- rw - t - - -": {
			ID: 1, Parent: 2, Minor: 3, Root: "/", MountPoint: "/-", Options: "rw", FSType: "t", Source: "-", SuperOptions: "- -",
		},
	} {
		m, err := ParseMount([]byte(line))
		require.NoError(t, err, line)
		assert.Equal(t, want, m)
	}
	for _, bad := range []string{
		"", "36 35 98:0 /mnt1 /mnt2 rw", "36 35 98:0 /mnt1 /mnt2 rw -", "36 35 98:0 /mnt1 /mnt2 rw - ext3",
		"36 35 98:0 /mnt1 /mnt2 rw - ext3 x", "36 35 98:0 /mnt1 /mnt2 rw master:1 ext3 x rw", "x 35 98:0 / / rw - a b c",
		"36 x 98:0 / / rw - a b c", "36 35 980 / / rw - a b c", "36 35 98:x / / rw - a b c", "36 35 -98:0 / / rw - a b c",
		"36 35 98:0 / / rw -  b c", "4294967296 35 98:0 / / rw - a b c",
	} {
		m, err := ParseMount([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
		assert.Zero(t, m)
	}
	mounts, err := ParseMountInfo([]byte("1 2 0:3 / /a rw - t s o\nodd\n1 2 0:3 / /b rw - t s o\n"))
	assert.ErrorIs(t, err, ErrSyntax)
	require.Len(t, mounts, 2)
	assert.Equal(t, "/b", mounts[1].MountPoint)
}

func TestLookupEnviron(t *testing.T) {
	data := []byte("A=1\x00AB=2\x00\x00=x\x00C\x00D=\x00E=e=f\x00A=3\x00F=half")
	for key, want := range map[string]string{"A": "1", "AB": "2", "D": "", "E": "e=f"} {
		v, ok := LookupEnviron(data, key)
		assert.True(t, ok, key)
		assert.Equal(t, want, v, key)
		assert.True(t, EnvironHas(data, key))
	}
	for _, key := range []string{"", "B", "C", "F", "E=e", "a", "AB=2\x00", "=x", "\x00"} {
		v, ok := LookupEnviron(data, key)
		assert.False(t, ok, "%q", key)
		assert.Empty(t, v)
		assert.False(t, EnvironHas(data, key))
	}
	assert.False(t, EnvironHas(nil, "A"))
	large := []byte(strings.Repeat("X=y\x00", 10000) + "K=v\x00")
	assert.LessOrEqual(t, testing.AllocsPerRun(10, func() { LookupEnviron(large, "K") }), 1.0)
	assert.Zero(t, testing.AllocsPerRun(10, func() { EnvironHas(large, "K") }))
}

func TestLooksLikeEnviron(t *testing.T) {
	for text, want := range map[string]bool{
		"A=1\x00": true, "A=\x00B=2\x00": true, "": false, "A=1": false, "\x00": false, "A=1\x00\x00\x00": false,
		"nginx: master process\x00": false, "=x\x00": false, "A=1\x00title\x00": false, "    \x00": false,
	} {
		assert.Equal(t, want, looksLikeEnviron([]byte(text)), "%q", text)
	}
}

func TestParseCmdline(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, "a\x00": {"a"}, "a\x00b c\x00": {"a", "b c"}, "a\x00\x00": {"a", ""}, "\x00": {""},
		"title": {"title"}, "a\x00b": {"a", "b"}, "\x00\x00b\n\x00": {"", "", "b\n"},
	} {
		assert.Equal(t, want, ParseCmdline([]byte(text)), "%q", text)
	}
}

func TestParseSyscall(t *testing.T) {
	for text, want := range map[string]Syscall{
		"running\n":                          {Running: true, Number: -1},
		"-1 0x7ffdafed99f8 0x7f1233f4d2ad\n": {Number: -1, SP: 0x7ffdafed99f8, PC: 0x7f1233f4d2ad},
		"-1 0x0 0x0\n":                       {Number: -1},
		"0 0x3 0x7f1233dd1000 0x20000 0x7f1233e64b60 0xffffffffffffffff 0x0 0x7ffdafed99f8 0x7f1233f4d2ad\n": {
			Args: [6]uint64{3, 0x7f1233dd1000, 0x20000, 0x7f1233e64b60, 1<<64 - 1, 0}, SP: 0x7ffdafed99f8, PC: 0x7f1233f4d2ad,
		},
	} {
		s, err := ParseSyscall([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, s)
		everyCut(text, func(prefix []byte) {
			s, err := ParseSyscall(prefix)
			assert.ErrorIs(t, err, ErrSyntax, "%q", prefix)
			assert.Zero(t, s)
		})
	}
	for _, bad := range []string{"\n", "running \n", "-1\n", "-2 0x0 0x0\n", "0 0x0 0x0\n", "x 0x0 0x0\n", "-1 0 0\n",
		"-1 0x0 0x0 0x0\n", "-1 0x0 0x10000000000000000\n", "1 2 3 4 5 6 7 8 9\n", "-2" + strings.Repeat(" 0x0", 8) + "\n", "running\nrunning\n", "4294967296 0x0 0x0\n"} {
		_, err := ParseSyscall([]byte(bad))
		assert.ErrorIs(t, err, ErrSyntax, "%q", bad)
	}
}

func TestParseWchan(t *testing.T) {
	for text, want := range map[string]string{"0": "", "": "", "0\n": "", "do_wait": "do_wait", "pipe_read\n": "pipe_read"} {
		assert.Equal(t, want, ParseWchan([]byte(text)))
	}
}

// FuzzProcess runs the small parsers: none panics, and what they return agrees with its input.
func FuzzProcess(f *testing.F) {
	for _, s := range []string{"12 3 ", limitsText, "9:name=systemd:/\n0::/x\n", "A=1\x00B=2\x00",
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n", `1 1 0:21 / /a\040b - - tmpfs  rw` + "\n",
		"0 0x3 0x7 0x20000 0x7 0xffffffff 0x0 0x7 0x7\n", "running\n", "-1 0x0 0x0\n"} {
		f.Add([]byte(s), "B")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		before := slices.Clone(data)
		pids, _ := ParseChildren(data)
		assert.LessOrEqual(t, len(pids), len(data)/2)
		limits, _ := ParseLimits(data)
		for _, l := range limits {
			_, _, ok := LookupLimit(data, l.Name)
			assert.True(t, ok)
		}
		groups, _ := ParseCGroups(data)
		for _, g := range groups {
			assert.Contains(t, string(data), ":"+strings.Join(g.Controllers, ",")+":"+g.Path+"\n")
		}
		mounts, _ := ParseMountInfo(data)
		assert.LessOrEqual(t, len(mounts), len(data)/16)
		if v, ok := LookupEnviron(data, key); ok {
			assert.Contains(t, "\x00"+string(data), "\x00"+key+"="+v+"\x00")
		} else if !strings.ContainsAny(key, "=\x00") && key != "" {
			assert.NotContains(t, string(data), "\x00"+key+"=\x00")
		}
		looksLikeEnviron(data)
		if args := ParseCmdline(data); len(data) > 0 {
			assert.Equal(t, strings.TrimSuffix(string(data), "\x00"), strings.Join(args, "\x00"))
		}
		if s, err := ParseSyscall(data); err == nil && s.Running {
			assert.Equal(t, "running\n", string(data))
		}
		ParseWchan(data)
		unescape(data)
		assert.Equal(t, before, data, "a parser wrote into its input")
	})
}
