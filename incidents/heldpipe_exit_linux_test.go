package incidents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
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
	testproc.Roles["held-host"] = heldHost
	testproc.Roles["leaving-host"] = leavingHost
	testproc.Roles["reading-host"] = readingHost
}

// heldHost runs a command that holds the pipe of a stream, stops it on demand, and exits.
func heldHost(args []string) int {
	mode := heldModes[slices.IndexFunc(heldModes, func(m heldMode) bool { return m.name == args[0] })]
	cmd := exec.Command(os.Args[0], mode.stream)
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"=hold-stream")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "3")}
	if err := mode.set(cmd); err != nil {
		return 1
	}
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(100*time.Millisecond))
	if err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	_, err = p.Stop()
	fmt.Println("stopped", err)
	return 0
}

// TestHostExits has hosts exit whose command held its pipe until Run killed it.
func TestHostExits(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.NeedsMissingPages(t)
	for _, m := range heldModes {
		t.Run(m.name, func(t *testing.T) {
			host := testproc.RoleCommand(t, "held-host", m.name)
			stop, err := host.StdinPipe()
			require.NoError(t, err)
			ready := startTelling(t, host)
			awaitHeld(t, testproc.Ready(t, ready)[0])
			require.NoError(t, stop.Close())
			assert.NoError(t, host.Wait(), "and not by the test's deadline")
		})
	}
}

// startTelling starts a host and returns what its commands write to descriptor 3.
func startTelling(t *testing.T, host *exec.Cmd) io.Reader {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	host.ExtraFiles = []*os.File{w}
	require.NoError(t, host.Start())
	w.Close()
	return r
}

// untilHeld has a shell wait until its background process holds its output. On amd64 Linux 5.10 does not tell where a
// process sleeps, and Yama may forbid to ask for its system call.
var untilHeld = fmt.Sprintf(`until grep -q userfault /proc/$!/task/*/wchan || grep -q '^%d ' /proc/$!/task/*/syscall 2>/dev/null
do sleep 0.01; done`, syscall.SYS_WRITEV)

// leavingHost leaves a background process that holds its pipe, and exits on demand.
func leavingHost([]string) int {
	cmd := exec.Command("sh", "-c", `"$0" stdout & `+untilHeld, os.Args[0])
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"=hold-stream")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "3")}
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithBackground(safeexec.BackgroundLeave),
		safeexec.WithDrainTimeout(testrun.Soon))
	if errors.Is(err, safeexec.ErrTreeUnseen) { // on a busy machine
		err = nil
	}
	return exitWhenTold(err)
}

func exitWhenTold(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready", os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// readingHost has one end of a pipe whose other end a process holds, never touches it, and exits on demand.
func readingHost([]string) int {
	cmd := exec.Command(os.Args[0], "stdout")
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"=hold-stream")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "3")}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	defer runtime.KeepAlive(out)
	return exitWhenTold(err)
}

// TestHostExitsAfterASurvivor has hosts exit whose pipe a process holds that lives on. The kernel closes the pipe at
// the exit of a process, which waits for the holder: also of one that has never touched the pipe.
func TestHostExitsAfterASurvivor(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.NeedsMissingPages(t)
	for _, role := range []string{"leaving-host", "reading-host"} {
		t.Run(role, func(t *testing.T) {
			host := testproc.RoleCommand(t, role)
			exit, err := host.StdinPipe()
			require.NoError(t, err)
			out, err := host.StdoutPipe()
			require.NoError(t, err)
			holder := testproc.Ready(t, startTelling(t, host))[0]
			awaitHeld(t, holder)
			testproc.Ready(t, out)
			require.NoError(t, exit.Close())
			testproc.WaitState(t, host.Process.Pid, "zD") // z: its first thread is dead, and another closes the pipe
			require.NoError(t, syscall.Kill(holder, syscall.SIGKILL))
			assert.NoError(t, host.Wait(), "and not by the test's deadline")
		})
	}
}
