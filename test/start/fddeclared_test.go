//go:build linux

package start_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["make-parent"] = makeParent
	testproc.Roles["jobserver-tokens"] = jobserverTokens
}

// TestMakeKeepsItsJobserver runs make -j4, whose recipe runs us, and we run another make through
// safeexec: it must find the jobserver, with all its tokens, and use it.
func TestMakeKeepsItsJobserver(t *testing.T) {
	t.Parallel()
	gnuMake := testproc.HasProgram(t, "make")
	dir := t.TempDir()
	outer, inner := filepath.Join(dir, "outer.mk"), filepath.Join(dir, "inner.mk")
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(outer, []byte("all:\n\t+@"+exe+" "+gnuMake+" "+inner+"\n"), 0o600))
	// Each job waits for all four: with fewer at a time none ever ends.
	require.NoError(t, os.WriteFile(inner, []byte("all: 1 2 3 4\n1 2 3 4:\n"+
		"\t@: >"+dir+"/started.$@; until [ -e "+dir+"/started.1 -a -e "+dir+"/started.2 -a -e "+
		dir+"/started.3 -a -e "+dir+"/started.4 ]; do sleep 0.01; done; echo done $@\n"), 0o600))

	cmd := testproc.RoleCommand(t, "make-parent")
	role := cmd.Env
	cmd = exec.CommandContext(testproc.Deadline(t), gnuMake, "-s", "-j4", "-f", outer)
	cmd.Env = append(role, "MAKEFLAGS=", "MAKELEVEL=", "MFLAGS=")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	out := string(text)
	assert.Contains(t, out, "tokens 3\n", "-j4 puts three tokens into the pipe, the fourth is the job's own")
	assert.Contains(t, out, "declared pipe MAKEFLAGS pipe MAKEFLAGS\n")
	assert.NotContains(t, out, "jobserver unavailable")
	for i := range 4 {
		assert.Contains(t, out, fmt.Sprintf("done %d\n", i+1))
	}
}

// makeParent is the program in the recipe.
func makeParent(args []string) int {
	exe, _ := os.Executable()
	tokens := exec.Command(exe)
	tokens.Env = append(os.Environ(), testproc.RoleVariable+"=jobserver-tokens")
	jobs := exec.Command(args[0], "-f", args[1])
	for i, cmd := range []*exec.Cmd{tokens, jobs} {
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		fmt.Print(res.Stdout.String(), "\n", res.Stderr.String())
		if i == 0 {
			fmt.Print("declared")
			for _, fd := range res.DeclaredFDs {
				fmt.Print(" ", fd.Kind, " ", fd.Declared)
			}
			fmt.Println()
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// jobserverTokens takes all tokens that are in the jobserver's pipe, and puts them back.
func jobserverTokens([]string) int {
	_, auth, _ := strings.Cut(os.Getenv("MAKEFLAGS"), "--jobserver-auth=")
	var r, w int
	if n, err := fmt.Sscanf(auth, "%d,%d", &r, &w); n != 2 {
		fmt.Println("no jobserver", os.Getenv("MAKEFLAGS"), err)
		return 1
	}
	fds := []unix.PollFd{{Fd: int32(r), Events: unix.POLLIN}}
	taken := make([]byte, 0, 16)
	for {
		n, _ := unix.Poll(fds, 0)
		if n != 1 || fds[0].Revents&unix.POLLIN == 0 || len(taken) == cap(taken) {
			break
		}
		if n, _ := unix.Read(r, taken[len(taken):len(taken)+1]); n == 1 {
			taken = taken[:len(taken)+1]
		}
	}
	unix.Write(w, taken)
	fmt.Println("tokens", len(taken))
	return 0
}

// TestListenFDs hands sockets over as systemd does. They are for us alone, and no command gets them.
func TestListenFDs(t *testing.T) {
	t.Parallel()
	for _, assign := range []string{"LISTEN_PID=$$ LISTEN_FDS=2", "LISTEN_PID=1 LISTEN_FDS=2", "LISTEN_FDS=999999999"} {
		t.Run(assign, func(t *testing.T) {
			t.Parallel()
			role := testproc.RoleCommand(t, "fds-parent", "os", "refuse-leaks", "mark", "refuse-leaks", "extra", "mark")
			cmd := exec.CommandContext(testproc.Deadline(t), "/bin/sh",
				append([]string{"-c", assign + ` exec "$0" "$@"`, role.Path}, role.Args[1:]...)...)
			cmd.Env, cmd.Stderr = role.Env, os.Stderr
			cmd.ExtraFiles = bornAt(t, 3, 4, 5)
			a := answers(t, cmd)
			require.Len(t, a, 5)
			assert.Equal(t, []int{3, 4, 5}, only(a[0].numbers(t), 3, 4, 5))
			assert.NotEqual(t, "<nil>", a[1].Err, "a leak is refused")
			assert.Equal(t, []int{0, 1, 2}, a[2].numbers(t))
			assert.Empty(t, a[2].Declared)
			assert.Equal(t, "<nil>", a[3].Err)
			assert.Contains(t, a[4].numbers(t), 3)
			assert.Equal(t, "/dev/zero", a[4].target(3), "an extra file comes first")
		})
	}
}

// TestJobserverOfTheChild has a pipe that our environment declares: a child whose own does not declare
// it does not get it, one whose own does gets it, in any order.
func TestJobserverOfTheChild(t *testing.T) {
	t.Parallel()
	for _, declare := range []string{"MAKEFLAGS=-j4\\ --jobserver-auth=6,7", "UNRELATED=1"} {
		t.Run(declare, func(t *testing.T) {
			t.Parallel()
			role := testproc.RoleCommand(t, "fds-parent", "undeclared", "jobserver", "undeclared", "jobserver", "os")
			cmd := exec.CommandContext(testproc.Deadline(t), "/bin/sh",
				append([]string{"-c", declare + ` exec "$0" "$@"`, role.Path}, role.Args[1:]...)...)
			cmd.Env, cmd.Stderr = role.Env, os.Stderr
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			defer w.Close()
			cmd.ExtraFiles = []*os.File{nil, nil, nil, r, w}
			a := answers(t, cmd)
			require.Len(t, a, 5)
			for i, want := range [][]int{{0, 1, 2}, {0, 1, 2, 6, 7}, {0, 1, 2}, {0, 1, 2, 6, 7}} {
				assert.Equal(t, want, a[i].numbers(t), i)
				assert.Equal(t, "<nil>", a[i].Err, i)
			}
			kept := []int(nil)
			if declare != "UNRELATED=1" {
				kept = []int{6, 7}
			}
			assert.Equal(t, kept, only(a[4].numbers(t), 6, 7), "os/exec gets what our environment declares")
		})
	}
}
