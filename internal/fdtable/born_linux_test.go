package fdtable

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { testproc.Roles["seal"] = sealBorn }

func TestListBorn(t *testing.T) {
	open, closed := leak(t), open(t, "/dev/null", unix.O_RDONLY)
	file, err := sys.FileOf(open)
	require.NoError(t, err)
	b := listBorn()
	assert.Equal(t, file, b[open])
	assert.NotContains(t, b, closed, "a program opened it since")
	assert.NotContains(t, b, 1<<20)

	assert.True(t, b.has(open, file))
	assert.False(t, b.has(closed, file))
	assert.False(t, b.has(1<<20, sys.File{}))
	assert.False(t, b.has(open, sys.File{Dev: file.Dev, Inode: file.Inode + 1}))
	assert.False(t, b.has(open, sys.File{Dev: file.Dev + 1, Inode: file.Inode}))
}

// bear has this process be born with a pipe that a jobserver may have, and returns its ends and the
// environment that declares them.
func bear(t *testing.T) (r, w int, env []string) {
	t.Helper()
	var p [2]int
	require.NoError(t, unix.Pipe2(p[:], 0))
	before := atBirth
	atBirth = listBorn()
	t.Cleanup(func() {
		atBirth = before
		unix.Close(p[0])
		unix.Close(p[1])
	})
	return p[0], p[1], []string{fmt.Sprintf("MAKEFLAGS=--jobserver-auth=%d,%d", p[0], p[1])}
}

func TestDeclared(t *testing.T) {
	r, w, env := bear(t)
	handed, withheld := Declared(env)
	assert.Empty(t, handed, "both are inherited")
	assert.Empty(t, withheld)
	require.NoError(t, sys.SetCloseOnExec(w))
	handed, withheld = Declared(env)
	assert.Equal(t, []int{w}, handed)
	assert.Empty(t, withheld)

	t.Setenv("MAKEFLAGS", env[0][len("MAKEFLAGS="):])
	handed, withheld = Declared(env)
	assert.Equal(t, []int{w}, handed)
	assert.Empty(t, withheld)
	handed, withheld = Declared([]string{})
	assert.Empty(t, handed)
	assert.Equal(t, []int{r, w}, withheld)
}

func TestLookup(t *testing.T) {
	t.Setenv("MAKEFLAGS", "ours")
	assert.Equal(t, "ours", lookup(nil, "MAKEFLAGS"))
	assert.Equal(t, "", lookup([]string{}, "MAKEFLAGS"))
	assert.Equal(t, "first", lookup([]string{"MAKEFLAGS=first"}, "MAKEFLAGS"))
	assert.Equal(t, "last", lookup([]string{"MAKEFLAGS=first", "MAKEFLAGS=last"}, "MAKEFLAGS"))
	assert.Equal(t, "x", lookup([]string{"MAKEFLAGS=x", "MAKEFLAGS_OLD=y", "MAKEFLAGS", "=z"}, "MAKEFLAGS"))
}

// TestUndeclared lists a child that has everything there is to tell apart.
func TestUndeclared(t *testing.T) {
	Seal() // the child gets what it is given here alone
	r, w, env := bear(t)
	low, high := min(r, w), max(r, w)
	cmd := testproc.Shell("echo ready; read line")
	null := asFile(t, open(t, "/dev/null", unix.O_RDONLY))
	files := make([]*os.File, high-FirstFD+4)
	for i := range files {
		files[i] = null
	}
	files[0] = asFile(t, memfd(t))
	files[high-FirstFD+1] = asFile(t, deletedFile(t))
	files[r-FirstFD], files[w-FirstFD] = asFile(t, r), asFile(t, w)
	cmd.ExtraFiles = files
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.Equal(t, "ready", testproc.ReadLine(t, stdout))
	pid := cmd.Process.Pid

	// What is declared counts behind the extra files alone: a number among them is the caller's.
	all, err := Undeclared(pid, []bool{}, nil, []string{})
	require.NoError(t, err)
	var numbers []int
	for i := range files {
		numbers = append(numbers, FirstFD+i)
	}
	require.Equal(t, numbers, nums(all))
	assert.Equal(t, FD{Num: FirstFD, Kind: KindMemfd, Target: "scratch", Read: true, Write: true}, all[0])
	deleted := all[high-FirstFD+1]
	assert.Equal(t, FD{Num: high + 1, Kind: KindFile, Target: deleted.Target, Read: true, Write: true, Deleted: true}, deleted)
	assert.Equal(t, "/dev/null", all[high-FirstFD+2].Target)
	assert.False(t, all[high-FirstFD+2].Write)

	extra := make([]bool, low-FirstFD) // the numbers before the pipe
	for i := range extra {
		extra[i] = i != 0
	}
	list, err := Undeclared(pid, extra, []int{high + 2}, env)
	require.NoError(t, err)
	want := []int{FirstFD, high + 1, high + 3}
	for fd := low + 1; fd < high; fd++ {
		want = append(want, fd)
	}
	assert.ElementsMatch(t, want, nums(list))

	extra = make([]bool, low-FirstFD+1)
	list, err = Undeclared(pid, extra, nil, env)
	require.NoError(t, err)
	assert.Contains(t, nums(list), low)
	assert.NotContains(t, nums(list), high)

	require.NoError(t, stdin.Close())
	require.Error(t, cmd.Wait(), "read has met the end")
	_, err = Undeclared(1<<22, nil, nil, env)
	assert.Error(t, err)
}

// A sealed process says what it found.
type sealed struct {
	Marked, Declared []int
	Born             bool   // all of these
	Unmarked         []int  // of those that it was born with
	Err              string // of Seal
	Looks            bool   // a second Seal counts as a look, before one is due
}

// sealBorn seals a process that was born with descriptors, and without /proc where the argument says so.
func sealBorn(args []string) int {
	if args[0] == "no-proc" {
		if err := syscall.Chroot(args[1]); err != nil {
			return testproc.Fail(err)
		}
	}
	found := Seal()
	s := sealed{Marked: nums(found.Marked), Declared: nums(found.Declared), Born: true}
	for _, d := range append(found.Marked, found.Declared...) {
		s.Born = s.Born && d.Born
	}
	for fd := range 7 {
		if marked, err := sys.CloseOnExec(fd); err == nil && !marked {
			s.Unmarked = append(s.Unmarked, fd)
		}
	}
	if found.Err != nil {
		s.Err = found.Err.Error()
	}
	sealing.survey.next = time.Now().Add(time.Hour)
	next := sealing.survey.next
	if _, err := unix.FcntlInt(0, unix.F_DUPFD, FirstFD); err != nil {
		return testproc.Fail(err)
	}
	Seal()
	s.Looks = !sealing.survey.next.Equal(next)
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return testproc.Fail(err)
	}
	return 0
}

// TestSealBorn seals a process that make and a careless program started: with the first number, a jobserver that the
// environment declares, and one more.
func TestSealBorn(t *testing.T) {
	Seal() // the processes below are born with what they get here alone
	seal := func(disabled string, args ...string) (s sealed) {
		t.Helper()
		r, w := pipe(t)
		null := asFile(t, open(t, "/dev/null", unix.O_RDONLY))
		cmd := testproc.RoleCommand(t, "seal", args...)
		cmd.ExtraFiles = []*os.File{null, r, w, null}
		cmd.Env = append(cmd.Env, testproc.DisableVariable+"="+disabled, "MAKEFLAGS=--jobserver-auth=4,5")
		out, err := cmd.Output()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &s), "%s", out)
		return s
	}
	want := sealed{Marked: []int{3, 6}, Declared: []int{4, 5}, Born: true, Unmarked: []int{0, 1, 2, 4, 5}}
	assert.Equal(t, want, seal("", "all"))
	assert.Equal(t, want, seal("close_range", "all"))
	if testproc.Unprivileged() {
		return // /proc is there
	}
	blind := seal("close_range", "no-proc", t.TempDir())
	assert.NotEmpty(t, blind.Err)
	assert.Empty(t, blind.Marked)
	assert.Contains(t, blind.Unmarked, 3)
	if marksRanges() {
		blind = seal("", "no-proc", t.TempDir())
		assert.Empty(t, blind.Err)
		assert.NotContains(t, blind.Unmarked, 3)
	}
}
