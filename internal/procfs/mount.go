package procfs

import (
	"bytes"
	"strings"
)

// Mount is one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5). The octal escapes of the
// file are undone.
type Mount struct {
	ID           int
	Parent       int    // may be a mount that is not in the list
	Major        uint32 // of st_dev
	Minor        uint32
	Root         string   // what of the file system is mounted; ends in "//deleted" where it is gone
	MountPoint   string   // relative to the root of the process
	Options      string   // of the mount: rw,noatime
	Optional     []string // shared:1, master:2 …
	FSType       string   // ext4, fuse.sshfs
	Source       string   // may be empty
	SuperOptions string   // of the file system
}

// ParseMountInfo parses /proc/PID/mountinfo. Lines that parse are returned even with an error.
func ParseMountInfo(data []byte) ([]Mount, error) {
	return parseRows("mountinfo", data, ParseMount)
}

// ParseMount parses one line of /proc/PID/mountinfo. A source may be empty, so single blanks
// separate the fields.
func ParseMount(line []byte) (Mount, error) {
	bad := func(part string) (Mount, error) { return Mount{}, malformed("mountinfo", part) }
	var fields [6][]byte
	for i := range fields {
		var ok bool
		if fields[i], line, ok = bytes.Cut(line, []byte(" ")); !ok {
			return bad("fields")
		}
	}
	m := Mount{Root: unescape(fields[3]), MountPoint: unescape(fields[4]), Options: unescape(fields[5])}
	id, ok1 := parseUint(fields[0], 10, 31)
	parent, ok2 := parseUint(fields[1], 10, 31)
	major, minor, ok3 := bytes.Cut(fields[2], []byte(":"))
	maj, ok4 := parseUint(major, 10, 32)
	mnr, ok5 := parseUint(minor, 10, 32)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return bad("numbers")
	}
	m.ID, m.Parent, m.Major, m.Minor = int(id), int(parent), uint32(maj), uint32(mnr)
	for {
		field, rest, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			return bad("no separator")
		}
		line = rest
		if string(field) == "-" {
			break
		}
		m.Optional = append(m.Optional, unescape(field))
	}
	fsType, rest, ok1 := bytes.Cut(line, []byte(" "))
	source, options, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || len(fsType) == 0 {
		return bad("fields after the separator")
	}
	m.FSType, m.Source, m.SuperOptions = unescape(fsType), unescape(source), unescape(options)
	return m, nil
}

// unescape undoes \ooo. A backslash that begins no such escape stays.
func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b))
	for len(b) > 0 {
		if b[0] == '\\' && len(b) >= 4 {
			if v, ok := parseUint(b[1:4], 8, 8); ok {
				s.WriteByte(byte(v))
				b = b[4:]
				continue
			}
		}
		s.WriteByte(b[0])
		b = b[1:]
	}
	return s.String()
}

// mountLimit allows for tens of thousands of mounts.
const mountLimit = 16 << 20

// ReadMountInfo reads /proc/PID/mountinfo; of ourselves with [Self].
func ReadMountInfo(pid int) ([]Mount, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "mountinfo"}, mountLimit, ParseMountInfo)
}
