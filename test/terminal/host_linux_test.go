package terminal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
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
	testproc.Roles["terminal-host"] = terminalHost
	testproc.Roles["terminal-job"] = terminalJob
}

// hosting is what a terminalHost is to do.
type hosting struct {
	Command []string
	Helper  string // the testproc helper that Command runs; "" for none
	Role    string // the role that Command performs; "" for none
	Expires bool   // its timeout comes at SIGUSR2
	Grace   time.Duration
	Term    syscall.Signal // 0: SIGTERM
	Capture bool           // of standard output
	Proof   bool
}

// hosted is what a terminalHost tells of the run.
type hosted struct {
	Cause      safeexec.Cause
	ExitCode   int
	Signal     syscall.Signal
	SignaledBy safeexec.Signaler
	Stdout     string
	Killed     int
	Survivors  int
	Interrupts int // SIGINT that the host got
	NotFound   bool
	Abandoned  []string
}

// fdEvents is where a host tells what happens; the next is the canary that the command is to get.
const fdEvents = 3

// terminalHost is a program that runs an interactive command, and then reads a line from the terminal
// itself. It cancels the run at SIGUSR1 and when the terminal hangs up.
func terminalHost(args []string) int {
	var todo hosting
	if err := json.Unmarshal([]byte(args[0]), &todo); err != nil {
		panic(err)
	}
	events := os.NewFile(fdEvents, "events")
	canary := os.NewFile(fdEvents+1, "canary")
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGUSR1, syscall.SIGHUP)
	defer cancel()
	interrupts := make(chan os.Signal, 100)
	signal.Notify(interrupts, syscall.SIGINT)

	cmd := exec.Command(todo.Command[0], todo.Command[1:]...)
	cmd.Env = append(os.Environ(), "TERM=dumb", "PS1=prompt> ", "HISTFILE=", "INPUTRC=/dev/null")
	if todo.Helper != "" {
		cmd.Env = append(cmd.Env, testproc.Selector+"="+todo.Helper)
	}
	if todo.Role != "" {
		cmd.Env = append(cmd.Env, testproc.RoleVariable+"="+todo.Role)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if todo.Capture {
		cmd.Stdout = nil
	}
	cmd.ExtraFiles = []*os.File{canary}
	opts := []safeexec.Option{safeexec.WithTerminal(), safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(todo.Grace)}
	if todo.Term != 0 {
		opts = append(opts, safeexec.WithTermSignal(todo.Term))
	}
	if todo.Proof {
		opts = append(opts, safeexec.WithFDProof())
	}
	p, err := safeexec.Start(ctx, cmd, opts...)
	canary.Close()
	var res safeexec.Result
	if err == nil {
		if todo.Expires {
			expire := make(chan os.Signal, 1)
			signal.Notify(expire, syscall.SIGUSR2)
			go func() { <-expire; _ = p.SetTimeout(time.Millisecond) }()
		}
		fmt.Fprintln(events, "ready", p.PID())
		res, err = p.Wait()
	}
	report := hosted{
		Cause: res.Cause, ExitCode: res.ExitCode, Signal: res.Signal, SignaledBy: res.SignaledBy,
		Stdout: res.Stdout.String(), Killed: len(res.Killed), Survivors: len(res.Survivors), Interrupts: len(interrupts),
		NotFound: errors.Is(err, safeexec.ErrNotFound),
	}
	for _, a := range res.Abandoned {
		report.Abandoned = append(report.Abandoned, a.String())
	}
	if err := json.NewEncoder(events).Encode(report); err != nil {
		return 1
	}
	var line [100]byte
	n, _ := os.Stdin.Read(line[:])
	fmt.Fprintf(events, "%q\n", line[:n])
	return 0
}

// terminalJob tells of being continued and of a changed window until there is a line to read.
func terminalJob([]string) int {
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, syscall.SIGCONT, syscall.SIGWINCH)
	go func() {
		for sig := range signals {
			fmt.Println("got", sig)
		}
	}()
	fmt.Println("waiting")
	var line string
	_, err := fmt.Scanln(&line)
	fmt.Println("read", line, err)
	return 0
}

// A host is a terminalHost that runs, and its terminal.
type host struct {
	*testproc.PTY
	cmd     *exec.Cmd // that leads the terminal's session
	events  *os.File
	telling *os.File // the other end of events
	canary  *testproc.Canary
}

func startHost(t *testing.T, todo hosting) *host {
	t.Helper()
	h := newHost(t)
	h.startHosting(t, todo)
	return h
}

func (h *host) startHosting(t *testing.T, todo hosting) {
	t.Helper()
	text, err := json.Marshal(todo)
	require.NoError(t, err)
	h.start(t, testproc.RoleCommand(t, "terminal-host", string(text)))
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{PTY: testproc.NewPTY(t), canary: testproc.NewCanary(t)}
	var err error
	h.events, h.telling, err = os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { h.events.Close(); h.telling.Close() })
	return h
}

// start starts what is to lead the terminal's session.
func (h *host) start(t *testing.T, cmd *exec.Cmd, env ...string) {
	t.Helper()
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = h.Slave(), h.Slave(), h.Slave()
	cmd.ExtraFiles = []*os.File{h.telling, h.canary.File()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	h.cmd = cmd
	h.telling.Close()
	h.CloseSlave()
}

// started waits for the command and returns its PID.
func (h *host) started(t *testing.T) int {
	t.Helper()
	return testproc.Ready(t, h.events)[0]
}

// report waits for the end of the run.
func (h *host) report(t *testing.T) hosted {
	t.Helper()
	var report hosted
	line := testproc.ReadLine(t, h.events)
	require.NoError(t, json.Unmarshal([]byte(line), &report), line)
	return report
}

// ended has the host read a line from the terminal and end, and checks that nobody of the command's tree
// is left. Before it the host leads the terminal's session.
func (h *host) ended(t *testing.T) {
	t.Helper()
	assert.Equal(t, h.cmd.Process.Pid, h.Foreground(t))
	h.Type(t, "next\n")
	assert.Equal(t, `"next\n"`, testproc.ReadLine(t, h.events))
	h.gone(t)
}

func (h *host) gone(t *testing.T) {
	t.Helper()
	assert.NoError(t, h.cmd.Wait())
	h.canary.WaitGone(t)
}
