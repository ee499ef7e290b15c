// Package kernels says what is in force on the kernel that it runs on. Its test is the first that
// .ci/kernels runs on each; on any other machine it holds the same claims against the kernel there.
package kernels

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

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

// release returns the kernel's version as a number that can be compared: 5.10 is 5010.
func release(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	var major, minor int
	_, err = fmt.Sscanf(string(text), "%d.%d", &major, &minor)
	require.NoError(t, err)
	return major*1000 + minor
}

// A fact is whether a mechanism is in force, and whether it must be.
type fact struct {
	name      string
	has, want bool
}

// TestInForce holds what a run reports to be in force against the version that each mechanism came with.
// Debian's cloud kernels have all of them compiled in.
func TestInForce(t *testing.T) {
	kernel := release(t)

	res, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(time.Minute))
	require.NoError(t, err)
	facts := []fact{
		{"session", res.Tracks.Has(safeexec.TrackSession), true},
		{"parent", res.Tracks.Has(safeexec.TrackParent), true},
		{"environment", res.Tracks.Has(safeexec.TrackEnvironment), true},
		{"limit", res.Tracks.Has(safeexec.TrackLimit), true},
		{"slice", res.Tracks.Has(safeexec.TrackSlice), kernel >= 6012},
		{"pidfd", hasPidfd(t), kernel >= 5003},
		{"close_range", sys.MarkRange(1<<20, 1<<20) == nil, kernel >= 5011},
	}
	// Elsewhere there need not be a cgroup of ours.
	if os.Getenv("SAFEEXEC_TEST_KERNEL") != "" {
		facts = append(facts, fact{"cgroup", hasCgroup(t), kernel >= 5007})
	}
	var line strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&line, " %s=%t", f.name, f.has)
		assert.Equal(t, f.want, f.has, f.name)
	}
	fmt.Printf("in force: kernel=%d.%d%s\n", kernel/1000, kernel%1000, line.String())
}

func hasPidfd(t *testing.T) bool {
	t.Helper()
	fd, err := sys.PidfdOpen(os.Getpid())
	if err != nil {
		return false
	}
	require.NoError(t, syscall.Close(fd))
	return true
}

func hasCgroup(t *testing.T) bool {
	t.Helper()
	res, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"),
		safeexec.WithTimeout(time.Minute), safeexec.WithContainment(safeexec.ContainmentCgroup))
	if err != nil {
		t.Log(err)
		return false
	}
	return res.Containment == safeexec.ContainmentCgroup && res.Tracks.Has(safeexec.TrackCgroup)
}
