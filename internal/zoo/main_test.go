//go:build linux

// Package zoo runs programs that other ways to end commands miss: daemons, shells, chains that hop from PID
// to PID, storms of forks, and many more.
package zoo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// bound is far more than any test needs. No result depends on it but that it was not reached.
const bound = time.Minute

// unbounded is a timeout that is not reached.
const unbounded = time.Hour

func TestMain(m *testing.M) {
	if unknown := sys.Disable(testproc.Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: nothing is called %q\n", testproc.DisableVariable, unknown)
		os.Exit(2)
	}
	testproc.Main(m, testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// warm opens what safeexec keeps for the life of the process.
func warm() {
	res, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(bound))
	if err != nil {
		fmt.Fprintf(os.Stderr, "warming up: %v, %+v\n", err, res)
	}
}

// withCanary gives the command, and all that descends from it, a canary as its last descriptor.
func withCanary(t testing.TB, cmd *exec.Cmd) *testproc.Canary {
	t.Helper()
	canary := testproc.NewCanary(t)
	cmd.ExtraFiles = append(cmd.ExtraFiles, canary.File())
	return canary
}

func pidsOf(list []safeexec.ProcessInfo) []int {
	var pids []int
	for _, p := range list {
		pids = append(pids, p.PID)
	}
	return pids
}
