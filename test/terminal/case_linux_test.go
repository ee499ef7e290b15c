package terminal_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["terminal-case"] = terminalCase
}

// What is checked inside of one host, which says what is wrong.
func TestTerminalInOneHost(t *testing.T) {
	testproc.NoLeaks(t)
	for name := range terminalCases {
		t.Run(name, func(t *testing.T) {
			h := &host{PTY: testproc.NewPTY(t)}
			h.cmd = testproc.RoleCommand(t, "terminal-case", name)
			h.cmd.Stdin, h.cmd.Stderr = h.Slave(), nil
			h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: name != "no terminal"}
			out, err := h.cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Empty(t, string(out))
		})
	}
}

func terminalCase(args []string) int {
	terminalCases[args[0]]()
	return 0
}

// terminalCases print what is wrong. They run in a process of their own, which has a terminal unless the
// name says otherwise.
var terminalCases = map[string]func(){
	"no terminal": func() {
		_, err := runInTerminal("true")
		expect("no terminal", errors.Is(err, safeexec.ErrNoTerminal) && errors.Is(err, syscall.ENXIO), err)
		cmd := exec.Command("true")
		_, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithTerminal())
		expect("no terminal", errors.Is(err, safeexec.ErrNoTerminal), err)
		_, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		expect("the command can be used again", err == nil, err)
	},
	"attributes": func() {
		for _, attr := range []*syscall.SysProcAttr{
			{Setsid: true}, {Setctty: true}, {Noctty: true}, {Pgid: 1}, {Ptrace: true},
		} {
			_, err := runInTerminal("true", attr)
			var config *safeexec.ConfigError
			expect("a ConfigError", errors.As(err, &config) && config.Name == "SysProcAttr", err)
		}
		for _, attr := range []*syscall.SysProcAttr{{Setpgid: true}, {Foreground: true}} {
			_, err := runInTerminal("true", attr)
			expect("no error", err == nil, err)
			expect("not changed", !attr.Foreground || !attr.Setpgid, attr)
		}
		expect("the terminal", foreground() == syscall.Getpgrp(), foreground())
	},
	"start fails": func() {
		for range 3 {
			_, err := runInTerminal("/nonexistent/program")
			expect("ErrNotFound", errors.Is(err, safeexec.ErrNotFound), err)
			expect("the terminal", foreground() == syscall.Getpgrp(), foreground())
		}
	},
	"two at once": func() {
		first, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"),
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithTerminal())
		expect("a start", err == nil, err)
		for range 10 {
			_, err = runInTerminal("true")
			expect("ErrNotForeground", errors.Is(err, safeexec.ErrNotForeground), err)
		}
		expect("that it has the terminal", foreground() == first.PID(), foreground())
		_, _ = first.Stop()
		_, err = runInTerminal("true")
		expect("the terminal is free", err == nil, err)
	},
	// Of those that come at the same time one gets it.
	"many at once": func() {
		for range 20 {
			const many = 8
			runs, errs := make(chan *safeexec.Process, many), make(chan error, many)
			for range many {
				go func() {
					run, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"),
						safeexec.WithTimeout(testrun.Unbounded), safeexec.WithTerminal())
					runs <- run
					errs <- err
				}()
			}
			started := 0
			for range many {
				if err := <-errs; err != nil {
					expect("ErrNotForeground", errors.Is(err, safeexec.ErrNotForeground), err)
					continue
				}
				started++
			}
			for range many {
				if run := <-runs; run != nil {
					res, _ := run.Stop()
					expect("an end by SIGTERM", res.Signal == syscall.SIGTERM, res)
				}
			}
			expect("one start", started == 1, started)
			expect("the terminal", foreground() == syscall.Getpgrp(), foreground())
		}
	},
	// Without another run of this process: the shell's next job, say.
	"background": func() {
		job := exec.Command("sleep", "600")
		job.SysProcAttr = &syscall.SysProcAttr{Foreground: true}
		expect("a job", job.Start() == nil, "")
		_, err := runInTerminal("true")
		expect("ErrNotForeground", errors.Is(err, safeexec.ErrNotForeground), err)
		expect("that the job has the terminal", foreground() == job.Process.Pid, foreground())
		_ = job.Process.Kill()
		_ = job.Wait()
	},
	"somebody else takes it": func() {
		run, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"),
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithTerminal())
		expect("a start", err == nil, err)
		job := exec.Command("sleep", "600")
		job.SysProcAttr = &syscall.SysProcAttr{Foreground: true}
		expect("a job", job.Start() == nil, "")
		_, err = run.Stop()
		expect("ErrStopped", errors.Is(err, safeexec.ErrStopped), err)
		expect("that the job has the terminal", foreground() == job.Process.Pid, foreground())
		_ = job.Process.Kill()
		_ = job.Wait()
	},
	// The kernel reaps, and the number of the command's group means nothing any more.
	"nobody to wait for": func() {
		signal.Ignore(syscall.SIGCHLD)
		for range 20 {
			res, err := runInTerminal("true")
			expect("ErrStatusUnknown", errors.Is(err, safeexec.ErrStatusUnknown) && res.Cause == safeexec.CauseExited, err)
			expect("the terminal", foreground() == syscall.Getpgrp(), foreground())
		}
	},
	// What lives on has the group to which the terminal was lent.
	"left behind": func() {
		cmd := exec.Command("sh", "-c", "sleep 600 >/dev/null 2>&1 &")
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithTerminal(),
			safeexec.WithBackground(safeexec.BackgroundLeave))
		expect("a run", err == nil, err)
		expect("one that lives on", len(res.Left) == 1, res.Left)
		expect("the terminal", foreground() == syscall.Getpgrp(), foreground())
		for _, p := range res.Left {
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it sleeps, and so has its number
		}
	},
	// The session is not the command's, and other processes in it are not of the tree.
	"bystanders": func() {
		before, after := exec.Command("sleep", "600"), exec.Command("sleep", "600")
		after.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		expect("a bystander", before.Start() == nil, "")
		run, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"),
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithTerminal())
		expect("a start", err == nil, err)
		expect("a bystander", after.Start() == nil, "")
		res, _ := run.Stop()
		expect("nobody else", len(res.Killed) == 0, res.Killed)
		expect("the group's track", res.Tracks.Has(safeexec.TrackGroup) && !res.Tracks.Has(safeexec.TrackSession), res.Tracks)
		for _, other := range []*exec.Cmd{before, after} {
			expect("that it lives", !testproc.Dead(other.Process.Pid), other.Process.Pid)
			_ = other.Process.Kill()
			_ = other.Wait()
		}
	},
}

func runInTerminal(program string, attr ...*syscall.SysProcAttr) (safeexec.Result, error) {
	cmd := exec.Command(program)
	if len(attr) > 0 {
		cmd.SysProcAttr = attr[0]
	}
	return safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithTerminal())
}

func expect(what string, ok bool, found any) {
	if !ok {
		fmt.Printf("expected %s: %v\n", what, found)
	}
}

// foreground returns the terminal's foreground process group.
func foreground() int {
	group, err := sys.ForegroundGroup(0)
	if err != nil {
		return -1
	}
	return group
}
