//go:build linux

package start_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["fds-parent"] = fdsParent
}

// What the parent of a test does, in this order, each by its name; it prints one answer for each
// step that starts something.
//
//	refuse ERRNO   has the kernel refuse close_range with this number
//	leak           opens a file and a listening socket as a C library would
//	os             runs the command by os/exec
//	mark, report, refuse-leaks, off, default   runs it by safeexec with that policy
//	pass N         adds WithFDs(N) to what follows
//	extra          adds an ExtraFile to what follows
func fdsParent(steps []string) int {
	var opts []safeexec.Option
	var extra []*os.File
	policies := map[string]safeexec.Option{
		"default": nil, "mark": safeexec.WithFDPolicy(safeexec.FDMark), "report": safeexec.WithFDPolicy(safeexec.FDReport),
		"refuse-leaks": safeexec.WithFDPolicy(safeexec.FDRefuse), "off": safeexec.WithFDPolicy(safeexec.FDOff),
	}
	out := json.NewEncoder(os.Stdout)
	for i := 0; i < len(steps); i++ {
		switch step := steps[i]; step {
		case "refuse":
			i++
			n, _ := strconv.Atoi(steps[i])
			if err := testproc.RefuseSyscall(unix.SYS_CLOSE_RANGE, syscall.Errno(n)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		case "leak":
			if err := leakLikeC(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		case "pass":
			i++
			n, _ := strconv.Atoi(steps[i])
			opts = append(opts, safeexec.WithFDs(n))
		case "extra":
			f, err := os.Open("/dev/zero")
			if err != nil {
				return 1
			}
			defer f.Close()
			extra = append(extra, f)
		case "os":
			cmd := testproc.Command("fds")
			cmd.ExtraFiles = extra
			text, err := cmd.Output()
			out.Encode(fdsAnswer{Child: lines(text), Err: fmt.Sprint(err)})
		default:
			cmd := testproc.Command("fds")
			cmd.ExtraFiles = extra
			switch step {
			case "undeclared":
				cmd.Env = append(cmd.Environ(), "MAKEFLAGS=-j4")
			case "jobserver":
				cmd.Env = append(cmd.Environ(), "MAKEFLAGS=-j4 --jobserver-auth=6,7")
			}
			res, err := safeexec.Run(context.Background(), cmd,
				safeexec.WithTimeout(testrun.Bound), safeexec.Options(opts...), policies[step])
			out.Encode(answer(res, err))
		}
	}
	return 0
}

// fdsAnswer is what one start came to.
type fdsAnswer struct {
	Child                    []string // what the child lists: number and target
	Marked, Leaked, Declared safeexec.FDs
	FDErr, Err               string
	Refused                  safeexec.FDs
	Cause                    safeexec.Cause
}

func answer(res safeexec.Result, err error) fdsAnswer {
	a := fdsAnswer{
		Child: lines(res.Stdout.Bytes()), Marked: res.MarkedFDs, Leaked: res.LeakedFDs, Declared: res.DeclaredFDs,
		FDErr: fmt.Sprint(res.FDErr), Err: fmt.Sprint(err), Cause: res.Cause,
	}
	var leaked *safeexec.LeakedFDsError
	if errors.As(err, &leaked) {
		a.Refused = leaked.FDs
	}
	return a
}

func lines(text []byte) []string { return strings.Split(strings.TrimSpace(string(text)), "\n") }

// leakLikeC opens what C code opens: a file, and a listening socket, neither close-on-exec.
func leakLikeC() error {
	if _, err := unix.Open("/dev/full", unix.O_WRONLY, 0); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	return unix.Listen(s, 1)
}

// bornFDs are the descriptors that the parent of a test is born with, by their number.
var bornFDs = []int{4, 5, 9, 200}

// parentFDs runs the steps in a process that is born with bornFDs and returns its answers.
func parentFDs(t *testing.T, env []string, steps ...string) []fdsAnswer {
	t.Helper()
	cmd := testproc.RoleCommand(t, "fds-parent", steps...)
	cmd.ExtraFiles = bornAt(t, bornFDs...)
	cmd.Env = append(cmd.Env, env...)
	return answers(t, cmd)
}

func answers(t *testing.T, cmd *exec.Cmd) []fdsAnswer {
	t.Helper()
	text, err := cmd.Output()
	require.NoError(t, err)
	var all []fdsAnswer
	for d := json.NewDecoder(strings.NewReader(string(text))); ; {
		var a fdsAnswer
		err := d.Decode(&a)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, a)
	}
}

// bornAt returns the ExtraFiles of a command that is born with files under these numbers.
func bornAt(t *testing.T, fds ...int) []*os.File {
	t.Helper()
	var extra []*os.File
	for _, fd := range fds {
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint("born-", fd)))
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		for len(extra) < fd-3 {
			extra = append(extra, nil)
		}
		extra = append(extra, f)
	}
	return extra
}

// numbers returns the numbers that the child listed.
func (a *fdsAnswer) numbers(t *testing.T) []int {
	t.Helper()
	var list []int
	for _, line := range a.Child {
		number, _, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		require.NoError(t, err, "%q, %s", line, a.Err)
		list = append(list, n)
	}
	return list
}

func (a *fdsAnswer) target(fd int) string {
	for _, line := range a.Child {
		if target, ok := strings.CutPrefix(line, fmt.Sprint(fd, " ")); ok {
			return target
		}
	}
	return ""
}

func numbers(l safeexec.FDs) []int {
	var list []int
	for _, fd := range l {
		list = append(list, fd.Num)
	}
	return list
}

// only keeps the numbers that the test is about: the environment may leak more into all tests.
func only(list []int, wanted ...int) []int {
	var kept []int
	for _, n := range list {
		for _, w := range wanted {
			if n == w {
				kept = append(kept, n)
			}
		}
	}
	return kept
}

// TestFDsOfChild is what all this is for: a parent born with descriptors, that leaks some more, and
// what its child gets from os/exec and from us.
func TestFDsOfChild(t *testing.T) {
	t.Parallel()
	var a []fdsAnswer
	for ctx := testproc.Deadline(t); !tellsSockets(a); { // each is given a moment, which a busy machine can exceed
		require.NoError(t, ctx.Err())
		a = parentFDs(t, nil, "leak", "os", "default", "default", "os")
		require.Len(t, a, 4)
	}

	leaks := a[0].numbers(t)
	assert.Subset(t, leaks, bornFDs, "os/exec hands on what the parent was born with")
	assert.Contains(t, strings.Join(a[0].Child, "\n"), "/dev/full", "and what a C library opened")
	assert.Contains(t, strings.Join(a[0].Child, "\n"), "socket:[")

	assert.Equal(t, "<nil>", a[1].Err)
	assert.Equal(t, []int{0, 1, 2}, a[1].numbers(t))
	assert.Equal(t, leaks[3:], numbers(a[1].Marked), "what was newly marked is listed")
	assert.Equal(t, "<nil>", a[1].FDErr)
	kinds := map[string]safeexec.FD{}
	for _, fd := range a[1].Marked {
		assert.True(t, fd.CloseOnExec)
		kinds[filepath.Base(fd.Target)] = fd
		if fd.Kind == safeexec.FDSocket {
			kinds["socket"] = fd
		}
	}
	assert.True(t, kinds["born-200"].Born)
	assert.Equal(t, safeexec.FDFile, kinds["born-200"].Kind)
	assert.False(t, kinds["full"].Born)
	assert.Equal(t, safeexec.FDDevice, kinds["full"].Kind)
	if assert.NotNil(t, kinds["socket"].Socket) {
		assert.Equal(t, "LISTEN", kinds["socket"].Socket.State)
		assert.Equal(t, "tcp", kinds["socket"].Socket.Network)
		assert.Regexp(t, `^127\.0\.0\.1:\d+$`, kinds["socket"].Socket.Local)
	}

	assert.Equal(t, []int{0, 1, 2}, a[2].numbers(t))
	assert.Empty(t, a[2].Marked, "once")
	assert.Equal(t, []int{0, 1, 2}, a[3].numbers(t), "the mark is lasting and process-wide")
}

// tellsSockets reports whether the sockets that were marked are described.
func tellsSockets(all []fdsAnswer) bool {
	for _, a := range all {
		for _, fd := range a.Marked {
			if fd.Kind == safeexec.FDSocket && fd.Socket == nil {
				return false
			}
		}
	}
	return len(all) > 0
}

// TestFDPolicies has each policy meet the same descriptors.
func TestFDPolicies(t *testing.T) {
	t.Parallel()
	a := parentFDs(t, nil, "report", "off", "refuse-leaks", "report", "mark", "refuse-leaks", "report")
	require.Len(t, a, 7)
	for _, i := range []int{0, 1, 3} {
		assert.Equal(t, bornFDs, only(a[i].numbers(t), bornFDs...), "left as they were")
		assert.Empty(t, a[i].Marked)
	}
	assert.Equal(t, bornFDs, only(numbers(a[0].Leaked), bornFDs...))
	assert.Empty(t, a[1].Leaked, "off does not look")
	assert.Equal(t, bornFDs, only(numbers(a[2].Refused), bornFDs...))
	assert.Equal(t, numbers(a[2].Refused), numbers(a[2].Leaked))
	assert.Equal(t, []string{""}, a[2].Child, "nothing ran")
	assert.Equal(t, safeexec.CauseStartFailed, a[2].Cause)
	assert.Contains(t, a[2].Err, "born-200")

	assert.Equal(t, []int{0, 1, 2}, a[4].numbers(t))
	assert.Equal(t, "<nil>", a[5].Err, "there is nothing left to refuse")
	assert.Equal(t, []int{0, 1, 2}, a[5].numbers(t))
	assert.Empty(t, a[6].Leaked)
}

// TestFDsWithoutCloseRange has the kernel refuse the system call, as old kernels and filters do.
func TestFDsWithoutCloseRange(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EINVAL} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			t.Parallel()
			a := parentFDs(t, []string{"MAKEFLAGS=-j --jobserver-auth=4,5"},
				"refuse", strconv.Itoa(int(errno)), "leak", "mark", "leak", "mark")
			require.Len(t, a, 2)
			assert.Equal(t, "<nil>", a[0].Err)
			assert.Equal(t, "<nil>", a[0].FDErr)
			assert.Equal(t, []int{0, 1, 2}, a[0].numbers(t), "4 and 5 are files and no jobserver")
			assert.Subset(t, numbers(a[0].Marked), bornFDs)
			assert.Equal(t, []int{0, 1, 2}, a[1].numbers(t))
			assert.Len(t, a[1].Marked, 2, "without the system call each start looks")
			assert.Contains(t, a[1].Marked.String(), "/dev/full")
		})
	}
}

// TestExtraFilesExactly declares files, one of them a leak of the parent's own.
func TestExtraFilesExactly(t *testing.T) {
	t.Parallel()
	a := parentFDs(t, nil, "extra", "extra", "default", "pass", "9", "default", "pass", "200", "default")
	require.Len(t, a, 3)
	assert.Equal(t, []int{0, 1, 2, 3, 4}, a[0].numbers(t))
	assert.Equal(t, "/dev/zero", a[0].target(3))
	assert.Equal(t, "/dev/zero", a[0].target(4), "not what the parent has there")

	assert.Equal(t, []int{0, 1, 2, 3, 4, 9}, a[1].numbers(t), "although it is marked by now")
	assert.Equal(t, "born-9", filepath.Base(a[1].target(9)))
	assert.Equal(t, []int{0, 1, 2, 3, 4, 200}, a[2].numbers(t), "the last option wins")
	assert.Equal(t, "born-200", filepath.Base(a[2].target(200)))
}

// TestWithFDsBesideOthers passes on a descriptor above those that the child inherits anyway.
func TestWithFDsBesideOthers(t *testing.T) {
	t.Parallel()
	a := parentFDs(t, nil, "pass", "9", "off", "default")
	require.Len(t, a, 2)
	assert.Equal(t, bornFDs, only(a[0].numbers(t), bornFDs...))
	assert.Equal(t, []int{0, 1, 2, 9}, a[1].numbers(t))
}

func TestWithFDsRefused(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	for _, test := range []struct {
		name string
		cmd  *exec.Cmd
		opt  safeexec.Option
	}{
		{"WithFDs", exec.Command("true"), safeexec.WithFDs(2)},
		{"WithFDs", exec.Command("true"), safeexec.WithFDs(-1)},
		{"WithFDs", exec.Command("true"), safeexec.WithFDs(int(null.Fd()), math.MaxInt32)},
		{"WithFDs", &exec.Cmd{Path: "/bin/true", ExtraFiles: []*os.File{nil}}, safeexec.WithFDs(3)},
		{"WithFDPolicy", exec.Command("true"), safeexec.WithFDPolicy(-1)},
		{"WithFDPolicy", exec.Command("true"), safeexec.WithFDPolicy(safeexec.FDOff + 1)},
	} {
		res, err := testrun.Run(t, test.cmd, test.opt)
		var config *safeexec.ConfigError
		if assert.ErrorAs(t, err, &config) {
			assert.Equal(t, test.name, config.Name)
		}
		assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
	}
}

// TestNonblockIsLeftAlone looks at files of the caller that a start touches, and at one that it
// does not: O_NONBLOCK belongs to the open file, which others may share.
//
// No other test runs meanwhile: a command that it starts would inherit what is not close-on-exec here.
func TestNonblockIsLeftAlone(t *testing.T) {
	nonblock := func(fd int) bool {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		return flags&unix.O_NONBLOCK != 0
	}
	for _, flag := range []int{0, unix.SOCK_NONBLOCK} {
		passed, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flag, 0)
		require.NoError(t, err)
		bystander, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|flag, 0) // not close-on-exec
		require.NoError(t, err)
		res, err := testrun.Run(t, testproc.Command("fds"), safeexec.WithFDs(passed[0]))
		require.NoError(t, err)
		a := answer(res, err)
		assert.Equal(t, []int{0, 1, 2, passed[0]}, a.numbers(t))
		for _, fd := range []int{passed[0], passed[1], bystander[0], bystander[1]} {
			assert.Equal(t, flag != 0, nonblock(fd))
			unix.Close(fd)
		}
	}
}
