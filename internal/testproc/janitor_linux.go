package testproc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// binaryVariable names the test binary in the environment of all that it starts.
const binaryVariable = "SAFEEXEC_TEST_BINARY"

func init() {
	Roles["janitor"] = janitor
	Roles["janitor-start"] = startJanitorRole
}

// employJanitor has a process wait that ends what this one has started, if this one is killed before it could: a fork
// storm that nobody ends any more takes the machine from all tests after it. It returns what dismisses the janitor.
// Those who have cleared their environment it does not find.
func employJanitor() (dismiss func()) {
	os.Unsetenv(binaryVariable) // of the one that has started this one
	exe, err := os.Executable()
	if err != nil {
		return func() {}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer r.Close()
	self := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	cmd := exec.Command(exe, self)
	cmd.Env = append(os.Environ(), RoleVariable+"=janitor-start", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = r
	if err := cmd.Run(); err != nil {
		w.Close()
		return func() {}
	}
	os.Setenv(binaryVariable, self)
	return func() {
		_, _ = w.WriteString("over")
		w.Close()
	}
}

// startJanitorRole starts the janitor and exits, so that it is no child of the tests'.
func startJanitorRole(args []string) int {
	exe, err := os.Executable()
	if err != nil {
		return Fail(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), RoleVariable+"=janitor")
	cmd.Stdin = os.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Fail(err)
	}
	return 0
}

// janitor waits for the end of the test binary that is its argument, and kills who bears its name, until for a while
// nobody does.
func janitor(args []string) int {
	if word, err := io.ReadAll(os.Stdin); err != nil || len(word) > 0 {
		return 0
	}
	bearing := []byte(binaryVariable + "=" + args[0] + "\x00")
	const rounds, pause, most = 20, 100 * time.Millisecond, time.Minute
	for begun, clean := time.Now(), 0; clean < rounds && time.Since(begun) < most; time.Sleep(pause) {
		if clean++; killBearers(bearing) > 0 {
			clean = 0
		}
	}
	return 0
}

func killBearers(bearing []byte) (killed int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // before the environment is read, so that both are of one process
		if err != nil {
			continue
		}
		environ, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(append(environ, 0), bearing) && p.Kill() == nil {
			killed++
		}
		_ = p.Release()
	}
	return killed
}
