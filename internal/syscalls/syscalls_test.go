package syscalls

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The numbers are from the man pages and the kernel's own tables, not from what the generator read.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arch   string
		number int
		name   string
	}{
		{"amd64", 0, "read"}, {"amd64", 45, "recvfrom"}, {"amd64", 61, "wait4"}, {"amd64", 202, "futex"},
		{"amd64", 230, "clock_nanosleep"}, {"amd64", 281, "epoll_pwait"}, {"amd64", 435, "clone3"},
		{"386", 3, "read"}, {"386", 7, "waitpid"}, {"386", 102, "socketcall"}, {"386", 407, "clock_nanosleep_time64"},
		{"arm", 3, "read"}, {"arm", 280, "waitid"}, {"arm", 292, "recvfrom"},
		{"arm64", 63, "read"}, {"arm64", 260, "wait4"}, {"arm64", 207, "recvfrom"}, {"arm64", 98, "futex"},
		{"riscv64", 63, "read"}, {"riscv64", 260, "wait4"}, {"riscv64", 259, "riscv_flush_icache"},
	} {
		name, ok := byArch(c.arch).Name(c.number)
		assert.True(t, ok, "%s %d", c.arch, c.number)
		assert.Equal(t, c.name, name, "%s %d", c.arch, c.number)
	}
}

func TestTablesAreWhole(t *testing.T) {
	t.Parallel()
	for arch, table := range tables {
		names := table.names()
		assert.Greater(t, len(names), 300, arch)
		seen := make(map[string]bool)
		for n, name := range names {
			assert.False(t, seen[name], "%s: %s twice", arch, name)
			seen[name] = true
			assert.Equal(t, strings.ToLower(name), name)
			_, err := strconv.Atoi(name)
			assert.Error(t, err, "%s %d: a number is no name", arch, n)
		}
		for _, name := range []string{"read", "write", "wait4", "futex", "flock", "openat", "ppoll"} {
			assert.True(t, seen[name], "%s: no %s", arch, name)
		}
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "syscall 9999", byArch("amd64").Describe(9999))
	assert.Equal(t, "syscall -1", byArch("amd64").Describe(-1))
	assert.Equal(t, "syscall 0", byArch("pdp11").Describe(0))
	assert.Equal(t, "read", byArch("amd64").Describe(0))
}

func TestOwnArchitecture(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || tables[runtime.GOARCH] == nil {
		t.Skip("there is no table for " + runtime.GOOS + "/" + runtime.GOARCH)
	}
	assert.Equal(t, "getpid", Native().Describe(getpidNumber))
	if runtime.GOARCH == "amd64" {
		assert.Equal(t, "getpid", Compat().Describe(20))
	}
}
