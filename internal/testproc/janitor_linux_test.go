package testproc

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

const leaverVariable = "SAFEEXEC_TEST_LEAVER"

// TestLeaver is what a test binary of [TestJanitor] runs.
func TestLeaver(t *testing.T) {
	if os.Getenv(leaverVariable) == "" {
		t.Skip("of TestJanitor")
	}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("left", cmd.Process.Pid)
	time.Sleep(10 * time.Minute)
}

// What a test binary has started ends with it, if it is killed.
func TestJanitor(t *testing.T) {
	HasProgram(t, "sleep")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(Deadline(t), exe, "-test.run=^TestLeaver$", "-test.v")
	cmd.Env = append(os.Environ(), leaverVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "left %d", &pid)
	}
	if pid == 0 {
		t.Fatal("it has left nobody")
	}
	if Dead(pid) {
		t.Error("it was ended before")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	Wait(t, func() bool { return Dead(pid) })
}
