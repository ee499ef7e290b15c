package tree_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// stray starts a daemon by the command of "$@" and prints its PID once it has its marks.
const stray = `"$@" sh -c 'echo $$; exec sleep 600 >/dev/null' </dev/null 2>/dev/null &`

// A process that takes the mark of another run of this process belongs to its own: the other neither waits for it nor
// ends it.
func TestMarkOfALiveNeighbor(t *testing.T) {
	for _, name := range []string{"setsid", "prlimit"} {
		testproc.HasProgram(t, name)
	}
	for _, with := range [][]string{{"setsid"}, nil} {
		t.Run(fmt.Sprint(with), func(t *testing.T) {
			start := func(script string, args ...string) (*safeexec.Process, *os.File, *os.File) {
				cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, args...)...)
				in, stdin, err := os.Pipe()
				require.NoError(t, err)
				stdout, out, err := os.Pipe()
				require.NoError(t, err)
				cmd.Stdin, cmd.Stdout = in, out
				p, err := safeexec.Start(testproc.Deadline(t), cmd, waits)
				in.Close()
				out.Close()
				require.NoError(t, err)
				t.Cleanup(func() {
					stdin.Close()
					_, _ = p.Stop()
					stdout.Close()
				})
				return p, stdin, stdout
			}
			neighbor, release, _ := start("read x; exit 0")
			mark, err := exec.Command("prlimit", "--pid", strconv.Itoa(neighbor.PID()), "--rttime", "--noheadings", "--output", "SOFT").Output()
			require.NoError(t, err)
			args := append(slices.Clone(with), "prlimit", "--rttime="+strings.TrimSpace(string(mark))+":")
			own, _, stdout := start(`pid=$(`+stray+`); echo ready $pid; exit 0`, args...)
			daemon := testproc.Ready(t, stdout)[0]

			release.Close()
			res, err := neighbor.Wait()
			require.NoError(t, err)
			assert.Empty(t, res.Killed)
			assert.False(t, testproc.Dead(daemon))
			res, _ = own.Stop()
			assert.Equal(t, []int{daemon}, testrun.PIDs(res.Killed))
		})
	}
}

// After a reset of limits, as by pam_limits, a program that uses this package starts a daemon. Only the environment
// and the slice say whose that is.
func TestRunWithinAfterAReset(t *testing.T) {
	bash := testproc.HasProgram(t, "bash")
	testproc.HasProgram(t, "prlimit")
	cmd := nestCommand("nest-inner")
	cmd.Args = []string{bash, "-c", `read -r line < <(exec prlimit --rttime=unlimited:unlimited "$0"); echo "$line"`, cmd.Path}
	cmd.Path = bash
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithGracePeriod(0))
	require.NoError(t, err)
	var inner, daemon int
	_, err = fmt.Sscanf(res.Stdout.String(), "ready %d %d", &inner, &daemon)
	require.NoError(t, err, res.Stdout.String())
	assert.Contains(t, testrun.PIDs(res.Killed), daemon)
	canary.WaitGone(t)
}
