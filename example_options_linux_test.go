package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

func ExampleWithTimeout() {
	_, err := safeexec.Run(context.Background(), exec.Command("sleep", "600"), safeexec.WithTimeout(50*time.Millisecond))
	fmt.Println(errors.Is(err, safeexec.ErrTimeout))
	// Output: true
}

// What the command has started in the background is given a minute to end by itself.
func ExampleWithLinger() {
	cmd := exec.Command("sh", "-c", "echo now; (sleep 0.05; echo later) &")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Hour), safeexec.WithLinger(time.Minute))
	fmt.Println(res.Stdout.String())
	fmt.Println(err)
	// Output:
	// now
	// later
	// <nil>
}

// Where processes cannot be killed, on a file system that does not answer, Run waits for ten seconds and names them.
func ExampleWithKillTimeout() {
	fmt.Println(safeexec.StopBound(safeexec.WithKillTimeout(10*time.Second)) - safeexec.StopBound(safeexec.WithKillTimeout(0)))
	// Output: 10s
}

// A Writer that does not return holds up Run for this long after the end of the command.
func ExampleWithDrainTimeout() {
	stuck, release := io.Pipe() // nothing reads from it
	defer stuck.Close()
	cmd := exec.Command("echo", "hello")
	cmd.Stdout = release
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithDrainTimeout(50*time.Millisecond))
	fmt.Println(errors.Is(err, safeexec.ErrWriterStuck), res.Abandoned)
	// Output: true [stdout writer]
}

func ExampleStopBound() {
	short := safeexec.StopBound(safeexec.WithGracePeriod(time.Second))
	long := safeexec.StopBound(safeexec.WithGracePeriod(time.Minute))
	fmt.Println(long - short)
	// Output: 59s
}

func ExampleWithoutReport() {
	res, _ := safeexec.Run(context.Background(), exec.Command("sleep", "600"),
		safeexec.WithTimeout(50*time.Millisecond), safeexec.WithoutReport())
	fmt.Println(res.Report == nil)
	// Output: true
}

// The program tells what it was doing before it is asked to end.
func ExampleWithDiagnosticSignal() {
	cmd := exec.Command("sh", "-c", "trap 'echo in the loop; exit' QUIT; echo ready; while :; do sleep 0.05; done")
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Hour),
		safeexec.WithDiagnosticSignal(syscall.SIGQUIT, time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range p.Lines(context.Background()) {
		fmt.Println(line.Text)
		break
	}
	res, _ := p.Stop()
	fmt.Println(res.Stdout.String())
	// Output:
	// ready
	// ready
	// in the loop
}

// The first argument is not secret.
func ExampleWithRedact() {
	res, err := safeexec.Run(context.Background(), exec.Command("true", "--password=hunter2"), safeexec.WithTimeout(time.Minute),
		safeexec.WithRedact(func(command []string) []string { return command[:1] }))
	fmt.Println(res.Command, err)
	// Output: [true] <nil>
}

// A full disk ends the run, and not only its output.
func ExampleWithStopOnWriteError() {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer full.Close()
	cmd := exec.Command("yes")
	cmd.Stdout = safeexec.Prefix(full, "yes | ")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Hour), safeexec.WithStopOnWriteError())
	fmt.Println(res.Cause == safeexec.CauseWriterFailed, errors.Is(err, syscall.ENOSPC))
	// Output: true true
}

// The limit holds for the command and all that it starts.
func ExampleWithLimit() {
	cmd := exec.Command("sh", "-c", `until [ "$(ulimit -n)" = 64 ]; do sleep 0.01; done; ulimit -n`)
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithLimit(safeexec.LimitOpenFiles, 64))
	fmt.Println(res.Stdout.String(), err)
	// Output: 64 <nil>
}

func ExampleWithNice() {
	cmd := exec.Command("sh", "-c", `until [ "$(nice)" = 19 ]; do sleep 0.01; done; nice`)
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithNice(19))
	fmt.Println(res.Stdout.String(), err)
	// Output: 19 <nil>
}

// What a run may not do without is asked for, and refused before anything starts.
func ExampleWithContainment() {
	ctx, cmd := context.Background(), func() *exec.Cmd { return exec.Command("echo", "hello") }
	opts := safeexec.Options(safeexec.WithTimeout(time.Minute))
	res, err := safeexec.Run(ctx, cmd(), opts, safeexec.WithContainment(safeexec.ContainmentCgroup), safeexec.WithPIDsMax(100))
	if errors.Is(err, safeexec.ErrContainment) { // here is no cgroup of ours, or not this controller
		res, err = safeexec.Run(ctx, cmd(), opts)
	}
	fmt.Println(res.Stdout.String(), err)
	// Output: hello <nil>
}

// timed is told of runs.
type timed struct{}

func (timed) Observe(context.Context, *exec.Cmd) safeexec.Observation {
	return safeexec.Observation{
		Env: []string{"REQUEST=17"},
		Ended: func(res safeexec.Result, err error) {
			fmt.Println("status", res.ExitCode, "of request", res.Stdout.String(), err)
		},
	}
}

func ExampleWithObserver() {
	cmd := exec.Command("sh", "-c", "echo $REQUEST")
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithObserver(timed{}))
	if err != nil {
		fmt.Println(err)
	}
	// Output: status 0 of request 17 <nil>
}

func ExampleWithLogger() {
	shown := map[string]bool{"level": true, "msg": true, "command": true, "cause": true, "exit_code": true}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if !shown[a.Key] {
				return slog.Attr{} // of which an example cannot know the value
			}
			return a
		},
	}))
	_, _ = safeexec.Run(context.Background(), exec.Command("sh", "-c", "exit 3"), safeexec.WithTimeout(time.Minute), safeexec.WithLogger(log))
	// Output: level=WARN msg="command ended" command=sh cause=exited exit_code=3
}

// A command that was not started, for want of a process, is worth another try; one that does not exist is not.
func ExampleRetryable() {
	_, err := safeexec.Run(context.Background(), exec.Command("/no/such/program"), safeexec.WithTimeout(time.Minute))
	fmt.Println(safeexec.Retryable(err))
	// Output: false
}
