package terminal_test

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { testproc.Roles["hold-terminal"] = holdTerminal }

// holdTerminal holds the locks of the terminal at descriptor 3, from the end of its standard input on, for seconds at
// a time: a change of the line discipline waits for a writer, here from a page that never comes, and all others wait
// for that. It says before each time that it is about to.
func holdTerminal([]string) int {
	_, page, err := testproc.MissingPage()
	if err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	go unix.Write(3, page)
	for {
		fmt.Println("ready", os.Getpid())
		_ = unix.IoctlSetPointerInt(3, unix.TIOCSETD, 0)
	}
}

// TestTerminalHeld ends a run whose terminal another process holds.
func TestTerminalHeld(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.NeedsMissingPages(t)
	testproc.Wait(t, func() bool { // in time, if the machine lets us
		h := newHost(t)
		holder := testproc.RoleCommand(t, "hold-terminal")
		holder.ExtraFiles = []*os.File{h.Slave()}
		begin, err := holder.StdinPipe()
		require.NoError(t, err)
		out, err := holder.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, holder.Start())
		defer func() {
			_ = holder.Process.Kill()
			_ = holder.Wait()
		}()
		h.startHosting(t, hosting{Command: []string{"sh", "-c", "exec sleep 600 <&- >&- 2>&-"}, Term: syscall.SIGKILL})
		h.started(t)
		require.NoError(t, begin.Close())
		testproc.Ready(t, out)
		testproc.Wait(t, func() bool { return testproc.SleepsIn(holder.Process.Pid, syscall.SYS_IOCTL) })
		require.NoError(t, h.cmd.Process.Signal(syscall.SIGUSR1))
		report := h.report(t)
		require.Equal(t, syscall.SIGKILL, report.Signal)
		require.Zero(t, report.Survivors)

		require.NoError(t, holder.Process.Kill())
		_ = holder.Wait()
		h.ended(t)
		return len(report.Abandoned) == 1 && report.Abandoned[0] == safeexec.AbandonedTerminal.String()
	})
}
