package procfs

import (
	"bytes"
	"strings"
)

// CGroup is one line of /proc/PID/cgroup, see cgroups(7).
type CGroup struct {
	Hierarchy   int      // 0 is cgroup v2
	Controllers []string // empty for v2; "name=systemd" for a v1 hierarchy without controllers

	// Path is relative to the root of our cgroup namespace and begins with "/..", where the cgroup
	// lies outside of it. Of a zombie whose cgroup was removed, it ends in " (deleted)"; a cgroup
	// may also bear that name.
	Path string
}

// ParseCGroups parses /proc/PID/cgroup. Paths may hold colons and blanks; the kernel refuses
// newlines in them. Lines that parse are returned even with an error.
func ParseCGroups(data []byte) ([]CGroup, error) {
	return parseRows("cgroup", data, func(line []byte) (CGroup, error) {
		id, rest, ok1 := bytes.Cut(line, []byte(":"))
		controllers, path, ok2 := bytes.Cut(rest, []byte(":"))
		hierarchy, ok3 := parseUint(id, 10, 31)
		if !ok1 || !ok2 || !ok3 || len(path) == 0 || path[0] != '/' {
			return CGroup{}, malformed("cgroup", "line")
		}
		g := CGroup{Hierarchy: int(hierarchy), Path: string(path)}
		if len(controllers) > 0 {
			g.Controllers = strings.Split(string(controllers), ",")
		}
		return g, nil
	})
}

// ReadCGroups reads /proc/PID/cgroup.
func ReadCGroups(pid int) ([]CGroup, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "cgroup"}, 1<<20, ParseCGroups)
}
