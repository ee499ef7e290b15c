package tree_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() {
	testproc.Roles["nest-middle"] = nestMiddle
	testproc.Roles["nest-inner"] = nestInner
}

// A run in a run in a run: each program calls safeexec. The innermost command becomes a daemon, which
// bears the numbers of the outermost and of the innermost run only, and the program that started it
// is killed without a chance to end it. The run between them finds it all the same.
func TestMiddleRunFindsTheInnermost(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := nestCommand("nest-middle")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd)
	require.NoError(t, err, "%s", res.Stderr.String())
	assert.True(t, strings.HasPrefix(res.Stdout.String(), "ended "), "%s", res.Stdout.String())
	assert.Empty(t, res.Killed, "the run in between has ended all")
	canary.WaitGone(t)
}

func nestCommand(role string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// passCanary hands on what the program got as descriptor 3.
func passCanary(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{os.NewFile(3, "canary")} }

func nestMiddle([]string) int {
	cmd := nestCommand("nest-inner")
	passCanary(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return testproc.Fail(err)
	}
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithGracePeriod(0))
	if err != nil {
		return testproc.Fail(err)
	}
	var self, daemon int
	if _, err := fmt.Fscanf(out, "ready %d %d\n", &self, &daemon); err != nil {
		return testproc.Fail(err)
	}
	// It is an orphan once those between are gone, and no parent tells whose it is.
	for orphan, tries := false, 0; !orphan && tries < 10000; tries++ {
		st, err := procfs.ReadStat(daemon)
		orphan = err != nil || st.PPID == 1
		time.Sleep(time.Millisecond)
	}
	res, _ := p.Stop()
	for _, killed := range res.Killed {
		if killed.PID == daemon {
			fmt.Println("ended", daemon)
			return 0
		}
	}
	return testproc.Fail(fmt.Errorf("daemon %d is not among %v; tracks %v", daemon, res.Killed, res.Tracks))
}

func nestInner([]string) int {
	cmd := testproc.Command("daemonize")
	passCanary(cmd)
	cmd.Stdout = os.Stdout
	if _, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Minute),
		safeexec.WithLinger(time.Minute)); err != nil {
		return testproc.Fail(err)
	}
	time.Sleep(10 * time.Minute)
	return 0
}
