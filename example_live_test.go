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

// The first Ctrl-C cancels what runs, the second kills it.
func ExampleNotifyContext() {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	res, err := safeexec.Run(ctx, exec.Command("echo", "hello"), safeexec.WithTimeout(time.Minute))
	fmt.Println(res.Stdout.String(), err)
	// Output: hello <nil>
}

func ExampleWithForce() {
	ctx, cancel := context.WithCancel(context.Background())
	force, kill := context.WithCancel(context.Background())
	cmd := exec.Command("sh", "-c", "trap 'echo not yet' TERM; echo ready; while :; do sleep 0.05; done")
	res, _ := safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Hour), safeexec.WithGracePeriod(time.Hour),
		safeexec.WithForce(force),
		safeexec.WithLines(func(line safeexec.Line) {
			if line.Text == "ready" {
				cancel()
			} else {
				kill()
			}
		}))
	fmt.Println(res.Cause, res.Signal)
	// Output: canceled killed
}

func ExampleWithTee() {
	cmd := exec.Command("sh", "-c", "echo step 1; echo step 2")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithTee(os.Stdout, os.Stderr))
	fmt.Printf("%q %v\n", res.Stdout.String(), err)
	// Output:
	// step 1
	// step 2
	// "step 1\nstep 2" <nil>
}

func ExampleWithLines() {
	cmd := exec.Command("sh", "-c", `printf ' 50%%\r100%%\r\n'; printf 'done'`)
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute),
		safeexec.WithLines(func(line safeexec.Line) { fmt.Printf("%d %q\n", line.Stream, line.Text) }))
	fmt.Println(err)
	// Output:
	// 1 " 50%"
	// 1 "100%"
	// 1 "done"
	// <nil>
}

func ExampleWithMergedOutput() {
	cmd := exec.Command("sh", "-c", "echo one; echo two >&2; echo three")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithMergedOutput())
	fmt.Printf("%q %v\n", res.Stdout.String(), err)
	// Output: "one\ntwo\nthree" <nil>
}

func ExampleWithStartRetry() {
	_, err := safeexec.Run(context.Background(), exec.Command("true"),
		safeexec.WithTimeout(time.Minute), safeexec.WithStartRetry(10*time.Second)) // while the machine is short of processes
	fmt.Println(err)
	// Output: <nil>
}

func ExamplePrefix() {
	cmd := exec.Command("sh", "-c", "echo compile; printf link")
	cmd.Stdout = safeexec.Prefix(os.Stdout, "build | ")
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	fmt.Println(err)
	// Output:
	// build | compile
	// build | link
	// <nil>
}

// start starts a shell script that the examples control.
func start(script string) *safeexec.Process {
	p, err := safeexec.Start(context.Background(), exec.Command("sh", "-c", script), safeexec.WithTimeout(time.Hour))
	if err != nil {
		panic(err)
	}
	return p
}

// To leave the loop does not end the command, and its output is kept as before.
func ExampleProcess_Lines() {
	p := start(`printf "starting\nlistening on port 8080\nmore\n"; sleep 600`)
	for line := range p.Lines(context.Background()) {
		if strings.HasPrefix(line.Text, "listening") {
			break
		}
	}
	res, _ := p.Stop()
	fmt.Println(res.Stdout.String())
	// Output:
	// starting
	// listening on port 8080
	// more
}

func ExampleProcess_Output() {
	p := start("echo so far; sleep 600")
	for {
		if stdout, _ := p.Output(); stdout.Total > 0 {
			fmt.Println(stdout.String())
			break
		}
		time.Sleep(time.Millisecond)
	}
	p.Kill()
	_, _ = p.Wait()
	// Output: so far
}

func ExampleProcess_Kill() {
	p := start("trap '' TERM; while :; do sleep 1; done")
	p.Kill()
	res, err := p.Wait()
	fmt.Println(res.Signal, errors.Is(err, safeexec.ErrStopped))
	// Output: killed true
}

func ExampleProcess_SetTimeout() {
	p := start("sleep 600")
	_ = p.SetTimeout(10 * time.Millisecond)
	_, err := p.Wait()
	fmt.Println(errors.Is(err, safeexec.ErrTimeout))
	fmt.Println(p.SetTimeout(time.Minute))
	// Output:
	// true
	// os: process already finished
}

func ExampleProcess_SignalTree() {
	p := start("sleep 600 & sleep 600")
	fmt.Println(p.SignalTree(syscall.SIGTERM))
	res, _ := p.Wait()
	fmt.Println(res.Cause, res.Signal, res.SignaledBy)
	// Output:
	// <nil>
	// exited terminated caller
}

// A record of a process that another program can end, and no process that has the number later.
func ExampleProcess_Info() {
	p := start("sleep 600")
	info := p.Info()
	_, err := safeexec.KillTree(context.Background(), info)
	fmt.Println(info.StartTicks > 0, err)
	_, _ = p.Wait()
	_, err = safeexec.KillTree(context.Background(), info)
	fmt.Println(errors.Is(err, safeexec.ErrNoProcess))
	// Output:
	// true <nil>
	// true
}

// At the end of a program: all that it runs has ten seconds.
func ExampleStopAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(safeexec.StopAll(ctx))
	// Output: <nil>
}
