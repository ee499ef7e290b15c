package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

func ExampleRun() {
	cmd := exec.Command("sh", "-c", "echo to standard output; echo to standard error >&2; exit 3")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	fmt.Println(res.Stdout.String())
	fmt.Println(res.Stderr.String())
	fmt.Println(res.ExitCode, err)
	// Output:
	// to standard output
	// to standard error
	// 3 exit status 3
}

// A script ends at once and leaves a process that holds its output. os/exec waits for that process; Run
// kills it.
func ExampleRun_background() {
	cmd := exec.Command("sh", "-c", "sleep 600 & echo done")
	res, err := safeexec.Run(context.Background(), cmd,
		safeexec.WithTimeout(time.Minute), safeexec.WithLinger(10*time.Millisecond))
	fmt.Println(res.Stdout.String(), err)
	fmt.Println("killed:", len(res.Killed))
	// Output:
	// done <nil>
	// killed: 1
}

func ExampleRun_timeout() {
	cmd := exec.Command("sleep", "600")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(50*time.Millisecond))
	fmt.Println(res.Cause, errors.Is(err, safeexec.ErrTimeout), errors.Is(err, context.DeadlineExceeded))
	// Output: timeout true true
}

// The deadline of the context serves as well as WithTimeout.
func ExampleRun_context() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := safeexec.Run(ctx, exec.Command("true"))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleRun_noTimeout() {
	_, err := safeexec.Run(context.Background(), exec.Command("true"))
	fmt.Println(errors.Is(err, safeexec.ErrNoTimeout))
	// Output: true
}

func ExampleRun_stdin() {
	cmd := exec.Command("tr", "a-z", "A-Z")
	cmd.Stdin = strings.NewReader("some input")
	cmd.Stdout = os.Stdout // os/exec's fields mean what they always did
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	fmt.Println("", err)
	// Output: SOME INPUT <nil>
}

func ExampleStart() {
	p, err := safeexec.Start(context.Background(), exec.Command("cat"), safeexec.WithTimeout(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	// The timeout holds even if nothing ever calls Wait.
	res, err := p.Wait()
	fmt.Println(res.Cause, err)
	// Output: exited <nil>
}

func ExampleProcess_Stop() {
	p, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"), safeexec.WithTimeout(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := p.Stop()
	fmt.Println(res.Cause, errors.Is(err, safeexec.ErrStopped))
	// Output: stopped true
}

func ExampleProcess_Signal() {
	cmd := exec.Command("sh", "-c", "trap 'echo got it; exit' HUP; echo ready; while :; do sleep 0.01; done")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	var word string
	fmt.Fscan(stdout, &word)
	_ = p.Signal(syscall.SIGHUP)
	var answer [2]string
	fmt.Fscan(stdout, &answer[0], &answer[1])
	_, err = p.Wait()
	fmt.Println(word, answer, err)
	// Output: ready [got it] <nil>
}

func ExampleOutput() {
	out, err := safeexec.Output(context.Background(), exec.Command("echo", "hello"), safeexec.WithTimeout(time.Minute))
	fmt.Printf("%q %v\n", out, err)
	// Output: "hello\n" <nil>
}

func ExampleCombinedOutput() {
	cmd := exec.Command("sh", "-c", "echo one; echo two >&2; echo three")
	out, err := safeexec.CombinedOutput(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// one
	// two
	// three
	// <nil>
}

// House rules go first, so that a call can replace them.
func ExampleOptions() {
	house := safeexec.Options(
		safeexec.WithTimeout(time.Minute),
		safeexec.WithGracePeriod(time.Second),
		safeexec.WithOutputLimit(64<<10),
	)
	_, err := safeexec.Run(context.Background(), exec.Command("true"), house, safeexec.WithTimeout(time.Hour))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWithOutputLimit() {
	cmd := exec.Command("sh", "-c", "echo first; seq 10000; echo last")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithOutputLimit(20))
	fmt.Println(len(res.Stdout.Bytes()), res.Stdout.Total, res.Stdout.Dropped, err)
	// Output: 20 48905 48885 <nil>
}

func ExampleWithOverflow() {
	_, err := safeexec.Run(context.Background(), exec.Command("yes"),
		safeexec.WithTimeout(time.Minute), safeexec.WithOverflow(safeexec.OverflowStop))
	fmt.Println(errors.Is(err, safeexec.ErrOutputLimit))
	// Output: true
}

// A command that has finished its work and does not exit falls silent.
func ExampleWithIdleTimeout() {
	cmd := exec.Command("sh", "-c", "echo finished; sleep 600")
	res, err := safeexec.Run(context.Background(), cmd,
		safeexec.WithTimeout(time.Hour), safeexec.WithIdleTimeout(100*time.Millisecond))
	fmt.Println(res.Cause, errors.Is(err, safeexec.ErrIdle), res.SignaledBy)
	// Output: idle true safeexec
}

// stopReady starts a shell script, waits for its first line, and stops it.
func stopReady(script string, opts ...safeexec.Option) (safeexec.Result, error) {
	cmd := exec.Command("sh", "-c", script)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return safeexec.Result{}, err
	}
	p, err := safeexec.Start(context.Background(), cmd, append(opts, safeexec.WithTimeout(time.Minute))...)
	if err != nil {
		return safeexec.Result{}, err
	}
	var word string
	fmt.Fscan(stderr, &word)
	return p.Stop()
}

func ExampleWithGracePeriod() {
	res, _ := stopReady("trap '' TERM; echo ready >&2; while :; do sleep 1; done", safeexec.WithGracePeriod(100*time.Millisecond))
	fmt.Println(res.Signal)
	// Output: killed
}

func ExampleWithTermSignal() {
	res, _ := stopReady("trap 'echo saved; exit 0' INT; echo ready >&2; while :; do sleep 0.01; done", safeexec.WithTermSignal(syscall.SIGINT))
	fmt.Println(res.Stdout.String(), res.ExitCode)
	// Output: saved 0
}

// A start script leaves a service behind, on purpose.
func ExampleWithBackground() {
	cmd := exec.Command("sh", "-c", "sleep 600 >/dev/null 2>&1 & echo started")
	res, err := safeexec.Run(context.Background(), cmd,
		safeexec.WithTimeout(time.Minute), safeexec.WithBackground(safeexec.BackgroundLeave))
	fmt.Println(res.Stdout.String(), err)
	fmt.Println("left running:", len(res.Left))
	for _, p := range res.Left {
		_, err = safeexec.KillTree(context.Background(), p, safeexec.WithTimeout(time.Minute))
		fmt.Println("killed:", err)
	}
	// Output:
	// started <nil>
	// left running: 1
	// killed: <nil>
}

func ExampleKillTree() {
	cmd := exec.Command("sh", "-c", "sleep 600 & exec sleep 600")
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	_, err := safeexec.KillTree(context.Background(), safeexec.OSProcess(cmd.Process), safeexec.WithTimeout(time.Minute))
	fmt.Println(err)
	fmt.Println(cmd.Wait())
	// Output:
	// <nil>
	// signal: terminated
}

// Several things can be true at once, and then all of them match.
func ExampleError() {
	p, err := safeexec.Start(context.Background(), exec.Command("sleep", "600"), safeexec.WithTimeout(time.Hour))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Stop()
	var e *safeexec.Error
	var exit *exec.ExitError
	fmt.Println(errors.As(err, &e), errors.As(err, &exit), errors.Is(err, safeexec.ErrStopped))
	fmt.Println(e.Op, e.Program, exit)
	// Output:
	// true true true
	// run sleep signal: terminated
}

// The number that a shell shows in $? for a command that a signal killed.
func ExampleResult_ShellCode() {
	res, _ := safeexec.Run(context.Background(), exec.Command("sh", "-c", "kill -TERM $$"), safeexec.WithTimeout(time.Minute))
	fmt.Println(res.ExitCode, res.Signal, res.ShellCode())
	// Output: -1 terminated 143
}

func ExampleRedactSecrets() {
	fmt.Println(safeexec.RedactSecrets([]string{"curl", "--password", "hunter2", "https://example.com/"}))
	// Output: [curl --password *** https://example.com/]
}

func ExampleCommand() {
	res, err := safeexec.Run(context.Background(), safeexec.Command("echo", "hello"), safeexec.WithTimeout(time.Minute))
	fmt.Println(res.Stdout.String(), err)
	// Output: hello <nil>
}

// What options add up to, for a log or a test.
func ExampleResolve() {
	s, err := safeexec.Resolve(safeexec.WithTimeout(time.Minute), safeexec.WithGracePeriod(time.Second))
	fmt.Println(s.Timeout, s.GracePeriod, s.Linger, err)
	// Output: 1m0s 1s 100ms <nil>
}

// How long Run takes at most, whatever the command does.
func ExampleBound() {
	bound, err := safeexec.Bound(safeexec.WithTimeout(time.Minute), safeexec.WithGracePeriod(time.Second))
	fmt.Println(bound > time.Minute, bound < time.Minute+15*time.Second, err)
	_, err = safeexec.Bound()
	fmt.Println(errors.Is(err, safeexec.ErrNoTimeout))
	// Output:
	// true true <nil>
	// true
}
