//go:build linux

package safeexec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["list-fds"] = listFDs
	testproc.Roles["hung"] = hung
}

// bornWithRuns is how many children the parent of row 9 has.
const bornWithRuns = 4

// listFDs is a parent that was born with descriptors: with the library and the file that its arguments
// name, it runs commands that list what they were born with.
func listFDs(args []string) int {
	extra, err := os.Open(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for i := range bornWithRuns {
		cmd := testproc.Command("fds")
		cmd.ExtraFiles = []*os.File{extra}
		cmd.Stdout = new(bytes.Buffer)
		if args[0] == "os" {
			err = cmd.Run()
		} else {
			_, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for line := range strings.Lines(cmd.Stdout.(*bytes.Buffer).String()) {
			fmt.Printf("%d %s", i, line)
		}
	}
	return 0
}

// bornWith runs a parent that was born with descriptors 4, 5 and 9, and returns how many of its
// children had each descriptor open on the right file: 3 is the one that was declared.
func bornWith(t *testing.T, library string) map[int]int {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o644))
		return path
	}
	want := map[int]string{3: file("declared"), 4: file("four"), 5: file("five"), 9: file("nine")}
	role := testproc.RoleCommand(t, "list-fds", library, want[3])
	role.Args = append([]string{"sh", "-c", `exec 4<"$1" 5<"$2" 9<"$3"; shift 3; exec "$@"`, "sh",
		want[4], want[5], want[9]}, append([]string{role.Path}, role.Args[1:]...)...)
	role.Path = testproc.HasProgram(t, "sh")
	out, err := role.Output()
	require.NoError(t, err)
	got := make(map[int]int)
	for line := range strings.Lines(string(out)) {
		var run, fd int
		var target string
		_, err := fmt.Sscanf(line, "%d %d %s\n", &run, &fd, &target)
		require.NoError(t, err, "%q", line)
		if want[fd] == target {
			got[fd]++
		}
	}
	t.Logf("of %d children: declared 3: %d; undeclared 4: %d, 5: %d, 9: %d",
		bornWithRuns, got[3], got[4], got[5], got[9])
	return got
}

func osInheritedDescriptors(t *testing.T) {
	got := bornWith(t, "os")
	assert.Equal(t, bornWithRuns, got[3])
	assert.Equal(t, bornWithRuns, got[9], "nobody declared it")
}

func inheritedDescriptors(t *testing.T) {
	got := bornWith(t, "safeexec")
	assert.Equal(t, bornWithRuns, got[3], "what is declared arrives")
	for _, fd := range []int{4, 5, 9} {
		assert.Zero(t, got[fd], "what is not declared does not")
	}
}

// A cappedBuffer keeps no more than its limit, its author thinks. io.Copy, and so os/exec, calls the
// ReadFrom that it got from bytes.Buffer.
type cappedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *cappedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, b.limit-b.Len()))])
	return len(p), nil
}

var errRefused = errors.New("refused by the test's writer")

// A refusingWriter takes n bytes and then fails.
type refusingWriter struct {
	n     int64
	calls int // that failed
}

func (w *refusingWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > w.n {
		w.calls++
		return int(w.n), errRefused
	}
	w.n -= int64(len(p))
	return len(p), nil
}

const cap10 = 1024

func osCappingWriter(t *testing.T) {
	cmd := exec.Command("head", "-c", "1000000", "/dev/zero")
	capped := &cappedBuffer{limit: cap10}
	cmd.Stdout = capped
	assert.NoError(t, try(cmd.Run).wait(t))
	t.Logf("kept %d bytes of a limit of %d", capped.Len(), cap10)
	assert.Equal(t, 1_000_000, capped.Len())

	cmd = exec.Command("yes")
	cmd.Stdout = &refusingWriter{n: cap10}
	var exit *exec.ExitError
	require.ErrorAs(t, try(cmd.Run).wait(t), &exit)
	assert.Equal(t, syscall.SIGPIPE, exit.Sys().(syscall.WaitStatus).Signal())
}

func cappingWriter(t *testing.T) {
	cmd := exec.Command("head", "-c", "1000000", "/dev/zero")
	capped := &cappedBuffer{limit: cap10}
	cmd.Stdout = capped
	_, err := testrun.Run(t, cmd)
	assert.NoError(t, err)
	t.Logf("kept %d bytes of a limit of %d", capped.Len(), cap10)
	assert.Equal(t, cap10, capped.Len())

	cmd = exec.Command("head", "-c", "1000000", "/dev/zero")
	cmd.Stdout = &refusingWriter{n: cap10}
	res, err := testrun.Run(t, cmd)
	assert.ErrorIs(t, err, errRefused)
	assert.Zero(t, res.ExitCode, "the command lives on")
	assert.Equal(t, safeexec.Stream{Total: 1_000_000, Dropped: 1_000_000 - cap10, Err: errRefused}, res.Stdout)
}

// hung is a parent with one processor and a busy garbage collector, whose command is on a file system
// that does not answer. Its arguments say the library, what is hung, and where.
func hung(args []string) int {
	runtime.GOMAXPROCS(1)
	var beats atomic.Int64
	go func() { // until the end of the process
		for {
			runtime.GC()
			beats.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
	fmt.Println("starting")
	for timeout := testrun.Soon; ; timeout *= 2 { // until the machine comes so far in that time
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, "true")
		if args[1] == "dir" {
			cmd.Dir = args[2]
		} else {
			cmd.Path = filepath.Join(args[2], "program")
		}
		began := time.Now()
		if args[0] == "os" {
			cmd.Cancel = func() error { fmt.Println("canceled"); return cmd.Process.Kill() }
			err := cmd.Run()
			fmt.Println("returned:", err)
			return 0
		}
		before := beats.Load()
		res, err := safeexec.Run(ctx, cmd)
		fmt.Printf("returned after %v: %v\n", since(began), err)
		switch {
		case !errors.Is(err, safeexec.ErrStartStalled), !errors.Is(err, context.DeadlineExceeded):
		case len(res.Abandoned) != 1 || res.Abandoned[0] != safeexec.AbandonedStart:
		case cmd.Process != nil || beats.Load() == before:
		default:
			return 0
		}
		if fmt.Printf("%+v, %d beats\n", res, beats.Load()-before); timeout > testrun.Bound/4 {
			return 1
		}
	}
}

func startHung(t *testing.T, library, what string) (role *exec.Cmd, stdout io.Reader, canary *testproc.Canary) {
	t.Helper()
	role = testproc.RoleCommand(t, "hung", library, what, testproc.HungMount(t))
	canary = testproc.WithCanary(t, role)
	stdout, err := role.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, role.Start())
	canary.CloseParent()
	require.Equal(t, "starting", testproc.ReadLine(t, stdout))
	return role, stdout, canary
}

func osHungFileSystem(t *testing.T) {
	for _, what := range []string{"dir", "path"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			role, stdout, canary := startHung(t, "os", what)
			a := try(func() error {
				out, _ := io.ReadAll(stdout)
				assert.Empty(t, string(out), "it is not even canceled")
				return role.Wait()
			})
			time.Sleep(testrun.Soon)
			a.stillBlocked(t, func() { killHolders(canary) })
		})
	}
}

func hungFileSystem(t *testing.T) {
	for _, what := range []string{"dir", "path"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			role, stdout, _ := startHung(t, "safeexec", what)
			out, err := io.ReadAll(stdout)
			require.NoError(t, err)
			t.Logf("%s", out)
			assert.NoError(t, role.Wait())
		})
	}
}
