//go:build linux

package containment_test

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A process that may write to another cgroup leaves the run's, and is not killed with it. The other tracks find
// it, and what it starts, among all the rest, most of which are still zombies.
func TestMoversAreFound(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root, who may write to another cgroup")
	}
	testproc.NoLeaks(t)
	parent := cgroupParent(t)
	crowd := `i=0; while [ $i -lt 10 ]; do sleep 600 & i=$((i+1)); done; `
	if testproc.Soaking() {
		crowd = strings.Replace(crowd, "10", "40", 1)
	}
	for name, script := range map[string]string{
		"one":                  crowd + `setsid sh -c 'echo $$ >"$0"/cgroup.procs; echo ready $$; exec sleep 600' "$0" & wait`,
		"one who is alone":     `setsid sh -c 'echo $$ >"$0"/cgroup.procs; echo ready $$; exec sleep 600' "$0" & wait`,
		"of the first process": crowd + `setsid sh -c '(echo $$ >"$0"/cgroup.procs; sleep 600 & echo ready $!) & exit' "$0"; wait`,
		"the leader":           crowd + `echo $$ >"$0"/cgroup.procs; echo ready $$; wait`,
		"one who forks": crowd + `setsid sh -c 'echo $$ >"$0"/cgroup.procs; echo ready $$
			while sleep 0.01; do sleep 600 & done' "$0" & wait`,
		"one who leaves when told to end": crowd + `setsid sh -c 'trap "echo \$\$ >$0/cgroup.procs" TERM; echo ready $$
			while :; do sleep 1; done' "$0" & wait`,
		"one who hops": crowd + `setsid sh -c 'mkdir "$0"/a; trap "" TERM; echo ready $$
			while echo $$ >"$0"/a/cgroup.procs; sleep 0.001; do echo $$ >"$0"/cgroup.procs; done' "$0" & wait`,
	} {
		for _, opt := range []safeexec.Option{safeexec.WithTermSignal(syscall.SIGKILL), safeexec.WithGracePeriod(20 * time.Millisecond)} {
			cmd := exec.Command("sh", "-c", script, parent)
			canary := testproc.WithCanary(t, cmd)
			p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), inCgroup(parent), opt)
			res, err := p.Stop()
			require.ErrorIs(t, err, safeexec.ErrStopped, name)
			assert.NotErrorIs(t, err, safeexec.ErrSurvivors, name)
			assert.Empty(t, res.Survivors, name)
			assert.Equal(t, safeexec.ContainmentCgroup, res.Containment, name)
			assert.Empty(t, canary.Holders(), name)
			canary.WaitGone(t)
			_ = syscall.Rmdir(parent + "/a")
		}
	}
}
