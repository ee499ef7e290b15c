package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

func init() {
	helpers["bystander"] = bystander
}

// A Bystander is a process that must not be touched. It remembers every signal that it got.
type Bystander struct {
	cmd *exec.Cmd
	in  *os.File
	out *os.File
}

// NewBystander starts a process whose name, as the kernel and its first argument have it, is that of
// the program given. It is a child of the test, in its group and its session. When the test ends it is
// killed if it lives.
func NewBystander(t testing.TB, program string) *Bystander {
	t.Helper()
	cmd := Command("bystander")
	// The test binary knows by its environment what it is to be, a program in C by its arguments.
	if path, err := buildEscapee(); err == nil {
		cmd = exec.Command(path, "bystander")
	}
	namesake := filepath.Join(t.TempDir(), filepath.Base(program))
	if err := os.Symlink(cmd.Path, namesake); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args[0] = namesake, program
	b := &Bystander{cmd: cmd}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	b.in, b.out = in, out
	cmd.Stdin, cmd.Stdout = stdin, stdout
	err = cmd.Start()
	stdin.Close()
	stdout.Close()
	t.Cleanup(b.end)
	if err != nil {
		t.Fatal(err)
	}
	Ready(t, out)
	return b
}

// PID returns its number.
func (b *Bystander) PID() int { return b.cmd.Process.Pid }

// Untouched ends the bystander, and fails the test if it got any signal or does not answer.
func (b *Bystander) Untouched(t testing.TB) {
	t.Helper()
	if what := b.touched(t); what != "" {
		t.Errorf("bystander %d: %s", b.PID(), what)
	}
}

// touched says what became of the bystander if it is not as it was. A signal that was sent before is
// handled before the answer: that is what comes first then.
func (b *Bystander) touched(t testing.TB) string {
	defer b.end()
	if state := State(b.PID()); state == 'T' || state == 'Z' || state == 0 {
		return fmt.Sprintf("is in state %q", state)
	}
	if _, err := b.in.Write([]byte{'?'}); err != nil {
		return err.Error()
	}
	if line := ReadLine(t, b.out); line != "alive" {
		return "got " + line
	}
	b.in.Close()
	if err := b.cmd.Wait(); err != nil {
		return err.Error()
	}
	return ""
}

// end may be called again.
func (b *Bystander) end() {
	b.in.Close()
	b.out.Close()
	if b.cmd.Process != nil && b.cmd.ProcessState == nil {
		b.cmd.Process.Kill()
		b.cmd.Wait()
	}
}

// bystander is the helper for where there is no compiler.
func bystander([]string) int {
	got := make(chan os.Signal, 64)
	for sig := syscall.Signal(1); sig < 65; sig++ {
		if sig != syscall.SIGURG { // by which the runtime interrupts itself
			signal.Notify(got, sig)
		}
	}
	go func() {
		for sig := range got {
			fmt.Println("signal", sig)
		}
	}()
	ready()
	c := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(c); err != nil {
			return 0
		}
		fmt.Println("alive")
	}
}
