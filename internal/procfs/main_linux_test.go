package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// helperVar selects what this test binary does when it is started as a subject to read about.
const helperVar = "PROCFS_TEST_HELPER"

// subjects are the helper programs. Each prints a line once it is what it wants to be and then
// lives until its standard input ends.
var subjects = map[string]func(arg string){
	"comm":       becomeNamed,
	"leaderless": exitLeader,
	"wait":       func(string) {},
	"fds":        tryFDs,
}

func init() {
	// The main goroutine stays on the main thread, which is the leader that exitLeader ends.
	if os.Getenv(helperVar) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	name := os.Getenv(helperVar)
	if name == "" {
		os.Exit(m.Run())
	}
	os.Unsetenv(helperVar)
	time.AfterFunc(10*time.Minute, func() { os.Exit(3) })
	subjects[name](os.Getenv("PROCFS_TEST_ARG"))
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// tryFDs says how reading the descriptors of a process fails, and ends.
func tryFDs(arg string) {
	pid, _ := strconv.Atoi(arg)
	links, err := FDs(pid)
	if errors.Is(err, fs.ErrPermission) && len(links) == 0 {
		fmt.Println("permission")
		os.Exit(0)
	}
	fmt.Println(len(links), "links", err)
	os.Exit(1)
}

func becomeNamed(name string) {
	if err := os.WriteFile("/proc/self/comm", []byte(name), 0); err != nil {
		panic(err)
	}
}

// exitLeader ends the main thread and leaves the others, who see to the rest. It is on the main
// thread, and inside a system call, so that the runtime does not miss the thread.
func exitLeader(string) {
	go func() {
		for {
			if s, err := ReadStat(os.Getpid()); err == nil && s.State == 'Z' {
				break
			}
			runtime.Gosched()
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// subject is a running helper.
type subject struct {
	*exec.Cmd
	pid  int
	hold io.WriteCloser // its standard input; closing it ends the helper
}

func startSubject(t testing.TB, name, arg string, env ...string) subject {
	t.Helper()
	return start(t, exec.Command("/proc/self/exe"), name, arg, env...)
}

func startSubjectArgs(t testing.TB, args ...string) subject {
	t.Helper()
	return start(t, exec.Command("/proc/self/exe", args...), "wait", "")
}

func start(t testing.TB, cmd *exec.Cmd, name, arg string, env ...string) subject {
	t.Helper()
	cmd.Env = append(env, helperVar+"="+name, "PROCFS_TEST_ARG="+arg, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		hold.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "helper %s", name)
	require.Equal(t, "ready\n", line)
	return subject{Cmd: cmd, pid: cmd.Process.Pid, hold: hold}
}

// asNobody runs a helper to its end as an ordinary user and returns what it printed.
func asNobody(t testing.TB, name, arg string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{helperVar + "=" + name, "PROCFS_TEST_ARG=" + arg, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// eventually retries cond with growing pauses until it holds, for what the kernel shows a moment
// after it happened.
func eventually(t testing.TB, cond func() bool, what string) {
	t.Helper()
	pause := 100 * time.Microsecond
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(pause) {
		if cond() {
			return
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
	require.Fail(t, "never: "+what)
}
