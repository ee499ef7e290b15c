// Package kernels says what is in force on the kernel that it runs on. Its test is the first that
// .ci/kernels runs on each; on any other machine it holds the same claims against the kernel there.
package kernels

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m, testproc.Warm(warm), testproc.Idle(poll.CloseIdle)) }

// warm opens what safeexec keeps for the life of the process.
func warm() {
	if _, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(time.Minute)); err != nil {
		fmt.Fprintln(os.Stderr, "warming up:", err)
	}
}

// release returns the kernel's version as a number that can be compared, 5.10 is 5010, and its name.
func release(t *testing.T) (version int, name string) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	var major, minor int
	_, err = fmt.Sscanf(string(text), "%d.%d", &major, &minor)
	require.NoError(t, err)
	return major*1000 + minor, strings.TrimSpace(string(text))
}

// A fact is whether a mechanism is in force, and since which version it must be.
type fact struct {
	name  string
	since int
	has   func(t *testing.T) bool
}

// everywhere holds on any machine, elsewhere there need not be a cgroup of ours, nor sock_diag(7), and a system
// call may be forbidden.
var everywhere = []fact{
	{"session", 0, hasTrack(safeexec.TrackSession)},
	{"parent", 0, hasTrack(safeexec.TrackParent)},
	{"environment", 0, hasTrack(safeexec.TrackEnvironment)},
	{"limit", 0, hasTrack(safeexec.TrackLimit)},
	{"slice", 6012, hasTrack(safeexec.TrackSlice)},
	{"pidfd", 5003, hasPidfd},
	{"close_range", 5011, func(*testing.T) bool { return sys.MarkRange(1<<20, 1<<20) == nil }},
}

// emulated holds on the kernels that .ci/kernels boots. Debian's cloud kernels have all of it compiled in, or as modules.
var emulated = []fact{
	{"rung:best", 0, func(t *testing.T) bool { return contained(t, safeexec.ContainmentBest) }},
	{"rung:exact", 0, func(t *testing.T) bool {
		// Where there is no cgroup to be had.
		return contained(t, safeexec.ContainmentExact, safeexec.WithCgroupParent(t.TempDir()))
	}},
	{"rung:cgroup", 5007, func(t *testing.T) bool { return contained(t, safeexec.ContainmentCgroup) }}, // clone3(2), CLONE_INTO_CGROUP
	{"limits", 5007, func(t *testing.T) bool {
		return contained(t, safeexec.ContainmentCgroup, safeexec.WithMemoryMax(1<<30), safeexec.WithPIDsMax(1000), safeexec.WithCPUMax(1))
	}},
	{"cgroup.freeze", 5002, func(t *testing.T) bool { return hasCgroupFile(t, "cgroup.freeze", "0") }},
	{"cgroup.kill", 5014, func(t *testing.T) bool { return hasCgroupFile(t, "cgroup.kill", "1") }},
	{"waitid(P_PIDFD)", 5004, hasWaitPidfd},
	{"pidfd_send_signal(group)", 6009, hasSignalGroup},
	{"PIDFD_GET_INFO(exit)", 6015, hasExitOf},
	{"openat2(RESOLVE_CACHED)", 5010, hasCachedLook}, // since 5.12; Debian's 5.10 has it as well
	{"epoll", 0, hasEpoll},
	{"loadavg", 0, func(*testing.T) bool {
		n, err := sys.ReadLoadavg(make([]byte, 128))
		return err == nil && n > 0
	}},
	{"sock_diag(unix)", 0, hasSockDiag},
}

// TestInForce holds what is in force against the version that each mechanism came with.
func TestInForce(t *testing.T) {
	kernel, name := release(t)
	facts := everywhere
	if testproc.Emulated() {
		facts = slices.Concat(everywhere, emulated)
	}
	var line strings.Builder
	for _, f := range facts {
		has := f.has(t)
		fmt.Fprintf(&line, " %s=%t", f.name, has)
		assert.Equal(t, kernel >= f.since, has, f.name)
	}
	fmt.Printf("in force: kernel=%s%s\n", name, line.String())
}

// TestDocument holds the table in the documents, which is made from the output on each kernel, against the same.
func TestDocument(t *testing.T) {
	if testproc.Emulated() {
		t.Skip("the documents are not in the image")
	}
	text, err := os.ReadFile("../../docs/kernels.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "| in force | Linux ")
	require.True(t, found)
	head, _, _ := strings.Cut("Linux "+table, "\n")
	var kernels []int
	for column := range strings.SplitSeq(strings.Trim(head, "| "), " | ") {
		var major, minor int
		_, err := fmt.Sscanf(column, "Linux %d.%d", &major, &minor)
		require.NoError(t, err, column)
		kernels = append(kernels, major*1000+minor)
	}
	assert.NotEmpty(t, kernels)
	for _, f := range slices.Concat(everywhere, emulated) {
		row := "\n| `" + f.name + "` |"
		for _, kernel := range kernels {
			row += map[bool]string{true: " yes |", false: " no |"}[kernel >= f.since]
		}
		assert.Contains(t, table, row+"\n")
	}
}

func run(t *testing.T, opts ...safeexec.Option) (safeexec.Result, bool) {
	t.Helper()
	res, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), append(opts, safeexec.WithTimeout(time.Minute))...)
	if err != nil {
		t.Log(err)
	}
	return res, err == nil
}

func hasTrack(track safeexec.Tracks) func(t *testing.T) bool {
	return func(t *testing.T) bool {
		res, ok := run(t)
		return ok && res.Tracks.Has(track)
	}
}

// contained reports whether a run had the rung that it asked for, and that by which it is told.
func contained(t *testing.T, rung safeexec.Containment, opts ...safeexec.Option) bool {
	t.Helper()
	res, ok := run(t, append(opts, safeexec.WithContainment(rung))...)
	return ok && res.Containment == rung && res.Tracks.Has(safeexec.TrackCgroup) == (rung == safeexec.ContainmentCgroup)
}

// hasCgroupFile reports whether a cgroup takes the value in the file.
func hasCgroupFile(t *testing.T, name, value string) bool {
	t.Helper()
	dir := "/sys/fs/cgroup/in-force"
	require.NoError(t, os.Mkdir(dir, 0o755))
	defer func() { assert.NoError(t, os.Remove(dir)) }()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		t.Log(err)
		return false
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err == nil
}

func hasPidfd(t *testing.T) bool {
	t.Helper()
	fd, err := sys.PidfdOpen(os.Getpid())
	if err != nil {
		return false
	}
	defer sys.Close(fd)
	return sys.PidfdSignal(fd, 0) == nil
}

func hasWaitPidfd(t *testing.T) bool {
	t.Helper()
	fd, err := sys.PidfdOpen(os.Getpid())
	require.NoError(t, err)
	defer sys.Close(fd)
	_, err = sys.ReapPidfd(fd)
	return sys.NoChild(err) // EINVAL where it is unknown
}

func hasSignalGroup(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	defer func() {
		assert.NoError(t, cmd.Process.Kill())
		assert.Error(t, cmd.Wait())
	}()
	fd, err := sys.PidfdOpen(cmd.Process.Pid)
	require.NoError(t, err)
	defer sys.Close(fd)
	return sys.PidfdSignalGroup(fd, 0) == nil
}

// hasExitOf reports whether a process that was reaped can be asked for its status.
func hasExitOf(t *testing.T) bool {
	t.Helper()
	cmd := testproc.Command("exit", "3")
	require.NoError(t, cmd.Start())
	fd, err := sys.PidfdOpen(cmd.Process.Pid)
	assert.NoError(t, err)
	assert.Error(t, cmd.Wait())
	defer sys.Close(fd)
	status, ok := sys.ExitOf(fd)
	return ok && status.ExitStatus() == 3
}

// hasCachedLook asks the kernel itself: the root directory of the machine is of a kind that sys.FindCached leaves.
func hasCachedLook(t *testing.T) bool {
	t.Helper()
	const (
		openat2, resolveCached, oPath = 437, 0x20, 0o10000000
		cwd                           = -100
	)
	how := struct{ flags, mode, resolve uint64 }{flags: oPath | syscall.O_CLOEXEC, resolve: resolveCached}
	path, dir := []byte("/\x00"), cwd
	fd, _, errno := syscall.Syscall6(openat2, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&how)),
		unsafe.Sizeof(how), 0, 0)
	if errno != 0 {
		t.Log(errno)
		return false
	}
	sys.Close(int(fd))
	return true
}

func hasEpoll(t *testing.T) bool {
	t.Helper()
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	sys.Close(fd)
	return true
}

func hasSockDiag(t *testing.T) bool {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer sys.Close(pair[0])
	defer sys.Close(pair[1])
	file, err := sys.FileOf(pair[0])
	require.NoError(t, err)
	_, err = sys.FindUnixSocket(file.Inode)
	return err == nil
}
