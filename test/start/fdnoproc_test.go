//go:build linux

package start_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	testproc.Roles["no-proc"] = noProc
}

// noProc starts commands where there is no /proc, first with close_range and then without.
func noProc(args []string) int {
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("none", "/proc", "tmpfs", 0, ""))
	if err != nil {
		fmt.Println("skip", err)
		return 0
	}
	// Without /proc a program cannot list its descriptors; a shell can write to one.
	start := func(name string, opts ...safeexec.Option) {
		opts = append(opts, safeexec.WithTimeout(testrun.Bound))
		cmd := exec.Command("sh", "-c", "(true >&9) 2>/dev/null && echo inherited || echo sealed")
		res, err := safeexec.Run(context.Background(), cmd, opts...)
		fmt.Println(name, res.Stdout.String(), "ran", res.PID != 0, "known", res.FDErr == nil,
			"refused", errors.Is(err, safeexec.ErrFDsUnknown))
	}
	start("report", safeexec.WithFDPolicy(safeexec.FDReport))
	start("refuse", safeexec.WithFDPolicy(safeexec.FDRefuse))
	start("proof", safeexec.WithFDPolicy(safeexec.FDOff), safeexec.WithFDProof())
	if args[0] == "refuse" {
		if err := testproc.RefuseSyscall(unix.SYS_CLOSE_RANGE, unix.ENOSYS); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	start("mark")
	return 0
}

// TestFDsWithoutProc has no list of what is open: what can be sealed all the same is, and the rest is
// refused or reported as unknown.
func TestFDsWithoutProc(t *testing.T) {
	t.Parallel()
	if testproc.Unprivileged() {
		t.Skip("needs root, to hide /proc")
	}
	for _, test := range []struct{ refuse, mark string }{
		{"nothing", "mark sealed ran true known true refused false"},
		{"refuse", "mark inherited ran true known false refused false"},
	} {
		if test.refuse == "nothing" && testproc.IsDisabled("close_range") {
			continue
		}
		cmd := testproc.RoleCommand(t, "no-proc", test.refuse)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		cmd.ExtraFiles = bornAt(t, 9)
		out, err := cmd.Output()
		if errors.Is(err, os.ErrPermission) || strings.HasPrefix(string(out), "skip") {
			t.Skipf("no mount namespace: %v, %s", err, out)
		}
		require.NoError(t, err)
		assert.Equal(t, []string{
			"report inherited ran true known false refused false",
			"refuse  ran false known false refused true",
			"proof  ran false known true refused true",
			test.mark,
		}, lines(out))
	}
}
