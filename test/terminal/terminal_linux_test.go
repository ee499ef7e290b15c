package terminal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func bash(t *testing.T, script ...string) []string {
	return append([]string{testproc.HasProgram(t, "bash"), "--norc", "--noprofile"}, script...)
}

func TestTerminalShell(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: bash(t, "-i")})
	pid := h.started(t)
	h.WaitScreen(t, "prompt> ")
	assert.Equal(t, pid, h.Foreground(t))
	h.Type(t, "echo $((6*7))\n")
	h.WaitScreen(t, "42")
	h.Type(t, "exit 3\n")
	report := h.report(t)
	assert.Equal(t, safeexec.CauseExited, report.Cause)
	assert.Equal(t, 3, report.ExitCode)
	assert.True(t, h.Echoes(t))
	h.ended(t)
}

// A shell with job control gives the terminal to its jobs, each in a group of its own.
func TestTerminalJobIsKilled(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	h := startHost(t, hosting{Command: bash(t, "-i"), Grace: 50 * time.Millisecond})
	shell := h.started(t)
	h.WaitScreen(t, "prompt> ")
	h.Type(t, testproc.Selector+"=ignore "+exe+" ignore TERM HUP\n")
	h.WaitScreen(t, "ready ")
	var job int
	_, err = fmt.Sscan(h.ReadLine(t), &job)
	require.NoError(t, err)
	assert.NotEqual(t, shell, job)
	assert.Equal(t, job, h.Foreground(t))
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGUSR1))
	report := h.report(t)
	assert.Equal(t, safeexec.CauseCanceled, report.Cause)
	assert.Equal(t, syscall.SIGKILL, report.Signal)
	assert.Equal(t, 1, report.Killed)
	assert.Zero(t, report.Survivors)
	assert.True(t, h.Echoes(t), "readline turns it off")
	h.ended(t)
}

// A job that a shell leaves behind when it exits is ended like all that a command leaves behind.
func TestTerminalJobIsLeft(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	h := startHost(t, hosting{Command: bash(t, "-i"), Grace: testrun.Unbounded})
	h.started(t)
	h.WaitScreen(t, "prompt> ")
	h.Type(t, testproc.Selector+"=hang "+exe+" hang &\n")
	h.WaitScreen(t, "ready ")
	h.Type(t, "exit\n")
	report := h.report(t)
	assert.Equal(t, safeexec.CauseExited, report.Cause)
	assert.Equal(t, 1, report.Killed)
	h.ended(t)
}

// The host is itself a job of a shell, which gets its terminal back when the host ends.
func TestTerminalUnderShell(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	todo, err := json.Marshal(hosting{Command: bash(t, "-c", "echo waiting; read -r line; echo [$line]")})
	require.NoError(t, err)
	h := newHost(t)
	shell := bash(t, "-i")
	h.start(t, exec.Command(shell[0], shell[1:]...), "PS1=shell> ", "TERM=dumb", "HISTFILE=")
	h.WaitScreen(t, "shell> ")
	h.Type(t, fmt.Sprintf("%s=terminal-host %s '%s'\n", testproc.RoleVariable, exe, todo))
	pid := h.started(t)
	h.WaitScreen(t, "waiting")
	assert.Equal(t, pid, h.Foreground(t))
	h.Type(t, "typed\n")
	h.WaitScreen(t, "[typed]")
	report := h.report(t)
	assert.Zero(t, report.ExitCode)
	assert.NotEqual(t, h.cmd.Process.Pid, h.Foreground(t), "the job has it")
	h.Type(t, "next\n")
	assert.Equal(t, `"next\n"`, testproc.ReadLine(t, h.events))
	h.WaitScreen(t, "shell> ")
	assert.Equal(t, h.cmd.Process.Pid, h.Foreground(t))
	h.Type(t, "exit\n")
	h.gone(t)
}

func TestTerminalTimeout(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: bash(t, "-c", "sleep 600 & echo waiting; read -r line"), Expires: true, Grace: testrun.Unbounded})
	h.started(t)
	h.WaitScreen(t, "waiting")
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGUSR2))
	report := h.report(t)
	assert.Equal(t, safeexec.CauseTimeout, report.Cause)
	assert.Equal(t, syscall.SIGTERM, report.Signal)
	assert.Equal(t, 1, report.Killed)
	h.ended(t)
}

func TestTerminalInterrupt(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	h := startHost(t, hosting{Command: []string{exe, "hang"}, Helper: "hang"})
	h.started(t)
	h.WaitScreen(t, "ready")
	h.Type(t, "\x03")
	report := h.report(t)
	assert.Equal(t, safeexec.CauseExited, report.Cause)
	assert.Equal(t, syscall.SIGINT, report.Signal)
	assert.Equal(t, safeexec.SignalerOther, report.SignaledBy)
	assert.Zero(t, report.Interrupts)
	h.ended(t)
}

// A prompt that is killed leaves the echo off, and half a password in the terminal's buffer.
func TestTerminalKilledPrompt(t *testing.T) {
	testproc.NoLeaks(t)
	prompts := map[string]func(t *testing.T) []string{
		"bash": func(t *testing.T) []string { return bash(t, "-c", `read -rsp "Password: " word`) },
		"python": func(t *testing.T) []string {
			return []string{testproc.HasProgram(t, "python3"), "-c", "import getpass; getpass.getpass()"}
		},
	}
	killers := map[string]func(t *testing.T, h *host, pid int){
		"by the run": func(t *testing.T, h *host, _ int) {
			require.NoError(t, h.cmd.Process.Signal(syscall.SIGUSR1))
		},
		"by somebody else": func(t *testing.T, _ *host, pid int) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) // the host's unreaped child
		},
	}
	for name, prompt := range prompts {
		for by, kill := range killers {
			t.Run(name+" "+by, func(t *testing.T) {
				h := newHost(t)
				before := h.Modes(t)
				h.startHosting(t, hosting{Command: prompt(t), Term: syscall.SIGKILL})
				pid := h.started(t)
				h.WaitScreen(t, "Password: ")
				h.WaitEcho(t, "off")
				h.Type(t, "secr")
				kill(t, h, pid)
				report := h.report(t)
				assert.Equal(t, syscall.SIGKILL, report.Signal)
				assert.Equal(t, before, h.Modes(t))
				h.ended(t)
			})
		}
	}
}

func TestTerminalPrompt(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: bash(t, "-c", `read -rsp "Password: " word; echo "[$word]"`), Capture: true})
	h.started(t)
	h.WaitScreen(t, "Password: ")
	h.WaitEcho(t, "off")
	h.Type(t, "secret\n")
	report := h.report(t)
	assert.Equal(t, "[secret]", report.Stdout)
	assert.True(t, h.Echoes(t))
	h.ended(t)
}

// What a command does to the modes on purpose stays.
func TestTerminalModesStay(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: []string{testproc.HasProgram(t, "stty"), "-echo"}})
	h.started(t)
	report := h.report(t)
	assert.Equal(t, safeexec.CauseExited, report.Cause)
	assert.Zero(t, report.ExitCode)
	assert.False(t, h.Echoes(t))
	h.ended(t)
}

// Ctrl-Z stops the command, which is continued at once, and tells of it.
func TestTerminalStop(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	h := startHost(t, hosting{Command: []string{exe}, Role: "terminal-job"})
	h.started(t)
	h.WaitScreen(t, "waiting")
	for range 3 {
		h.Type(t, "\x1a")
		h.WaitScreen(t, "got continued")
	}
	h.Resize(t, 30, 100)
	h.WaitScreen(t, "got window changed")
	h.Type(t, "line\n")
	h.WaitScreen(t, "read line <nil>")
	assert.Zero(t, h.report(t).ExitCode)
	h.ended(t)
}

// Whoever stops a command with SIGSTOP means it. The ladder continues it.
func TestTerminalSIGSTOP(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: bash(t, "-c", "echo waiting; read -r line"), Grace: testrun.Unbounded})
	pid := h.started(t)
	h.WaitScreen(t, "waiting")
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP)) // the host's unreaped child
	testproc.WaitState(t, pid, "T")
	require.NoError(t, h.cmd.Process.Signal(syscall.SIGUSR1))
	report := h.report(t)
	assert.Equal(t, syscall.SIGTERM, report.Signal)
	h.ended(t)
}

func TestTerminalHangup(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	h := startHost(t, hosting{Command: []string{exe, "ignore", "HUP", "TERM"}, Helper: "ignore", Grace: 50 * time.Millisecond})
	h.started(t)
	h.WaitScreen(t, "ready")
	h.HangUp()
	report := h.report(t)
	assert.Equal(t, safeexec.CauseCanceled, report.Cause)
	assert.Equal(t, syscall.SIGKILL, report.Signal)
	h.gone(t)
}

// A program that is not there is found out by the child, which has the terminal by then.
func TestTerminalStartFails(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: []string{"/nonexistent/program"}})
	report := h.report(t)
	assert.True(t, report.NotFound)
	h.ended(t)
}

func TestTerminalProof(t *testing.T) {
	testproc.NoLeaks(t)
	h := startHost(t, hosting{Command: bash(t, "-c", "read -r line; echo [$line]"), Proof: true, Capture: true})
	pid := h.started(t)
	assert.Equal(t, pid, h.Foreground(t))
	h.Type(t, "proved\n")
	assert.Equal(t, "[proved]", h.report(t).Stdout)
	h.ended(t)
}
