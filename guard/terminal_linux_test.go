package guard_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Ctrl-C, and the end of the terminal, reach what is in the terminal's foreground group: the program, and a command of
// os/exec.
func TestInATerminal(t *testing.T) {
	t.Parallel()
	for how, act := range map[string]func(*testing.T, *testproc.PTY){
		"Ctrl-C": func(t *testing.T, terminal *testproc.PTY) { terminal.Type(t, "\x03") },
		"hangup": func(_ *testing.T, terminal *testproc.PTY) { terminal.HangUp() },
	} {
		for with, gone := range map[string]bool{
			withOSExec: true, withNothing: false, withNotifyContext: true, withGuard: true,
		} {
			t.Run(with+"/"+how, func(t *testing.T) {
				t.Parallel()
				terminal := testproc.NewPTY(t)
				p := startWith(t, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: firstFile},
					[]*os.File{terminal.Slave()}, with, "echo started; exec sleep 7018")
				terminal.CloseSlave()
				require.Equal(t, "started", p.line(t))
				act(t, terminal)
				_ = p.Wait()
				p.check(t, gone)
			})
		}
	}
}
