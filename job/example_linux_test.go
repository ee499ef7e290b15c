package job_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"time"

	"github.com/seed841d8200/safeexec/job"
)

// A service is started, ready, found again by its name, and stopped.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "jobs-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := job.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	if _, err := store.Adopt(ctx); err != nil { // what a program before this one has left
		fmt.Println(err)
		return
	}
	cmd := exec.Command("sh", "-c", "echo listening; exec sleep 1000")
	_, err = store.Start(ctx, cmd, job.Name("web"), job.Endless(),
		job.Ready(time.Minute, job.LogLine(regexp.MustCompile("^listening"))))
	if err != nil {
		fmt.Println(err)
		return
	}
	web, err := store.Find("web") // as any other program can
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = web.Stop(ctx)
	st, _ := web.Status()
	fmt.Println(st, err)
	// Output: web: ended, signal 15 (terminated), stopped <nil>
}

// A command that should be over soon is waited for, and goes on as a job if it is not.
func ExampleStore_Run() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "jobs-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := job.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	for _, tool := range []struct {
		script string
		yield  time.Duration
	}{{"echo built", time.Minute}, {"exec sleep 1000", 10 * time.Millisecond}} {
		res, err := store.Run(ctx, exec.Command("sh", "-c", tool.script), job.Name("tool"), job.Timeout(time.Hour),
			job.Yield(tool.yield))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q %s\n", res.Output, res.Status.State)
		if res.Job != nil {
			_, err := res.Job.Kill(ctx)
			fmt.Println(err)
		}
	}
	// Output:
	// "built\n" ended
	// "" running
	// <nil>
}
