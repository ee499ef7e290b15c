//go:build linux

package group_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

func Example() {
	ctx := context.Background()
	g, err := group.New(ctx, group.Limit(2), group.Options(safeexec.WithTimeout(time.Minute)))
	if err != nil {
		fmt.Println(err)
		return
	}
	var jobs []*group.Job
	for _, code := range []string{"0", "3"} {
		jobs = append(jobs, g.Go(exec.Command("sh", "-c", "echo out of $0; exit $0", code)))
	}
	for _, job := range jobs {
		res, err := job.Wait()
		fmt.Println(res.Stdout, res.ExitCode, err)
	}
	fmt.Println(g.Shutdown(ctx))
	// Output:
	// out of 0 0 <nil>
	// out of 3 3 exit status 3
	// <nil>
}

// The results come as the commands end, whatever the order of their submission.
func ExampleResults() {
	ctx := context.Background()
	g, err := group.New(ctx, group.Limit(1), group.Options(safeexec.WithTimeout(time.Minute)))
	if err != nil {
		fmt.Println(err)
		return
	}
	first := g.Go(exec.Command("echo", "first"))
	second := g.Go(exec.Command("echo", "second"))
	for job := range group.Results(second, first) {
		res, _ := job.Wait()
		fmt.Println(res.Stdout)
	}
	fmt.Println(g.Shutdown(ctx))
	// Output:
	// first
	// second
	// <nil>
}

// A tool that is stuck is not started a second time, and does not outlive the group.
func ExampleGroup_GoKey() {
	ctx := context.Background()
	g, err := group.New(ctx, group.Limit(2), group.Options(safeexec.WithTimeout(time.Minute)))
	if err != nil {
		fmt.Println(err)
		return
	}
	stuck := g.GoKey("disk a", exec.Command("sleep", "60"))
	_, err = g.GoKey("disk a", exec.Command("sleep", "60")).Wait()
	fmt.Println(errors.Is(err, group.ErrBusy), err)

	fmt.Println(g.Shutdown(ctx))
	_, err = stuck.Wait()
	fmt.Println(errors.Is(err, group.ErrShutdown))
	// Output:
	// true group: "sleep" not started: a job with this key runs or waits
	// <nil>
	// true
}
