// Quickstart shows why safeexec exists: the same start script, run by os/exec and by safeexec.
//
//	go run ./examples/quickstart
//
// The script prints a line and ends at once. It leaves two daemons behind, which have inherited
// the pipe of its output. CombinedOutput reads that pipe until the last writer is gone, and so waits
// for the daemons. Run ends what the script left, and names a process outside its tree that holds the pipe.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
)

const script = `
sleep 60 & echo $! >worker.pid                           # stays in the script's session
setsid sh -c 'echo $$ >daemon.pid; exec sleep 60' &      # leaves it
until [ -s daemon.pid ]; do sleep 0.01; done
echo "start ok"
`

const patience = 2 * time.Second // with CombinedOutput, which has none of its own

func main() {
	if _, err := exec.LookPath("setsid"); err != nil {
		fmt.Fprintln(os.Stderr, "the script needs setsid of util-linux:", err)
		os.Exit(1)
	}
	ctx, stop := safeexec.NotifyContext(context.Background()) // Ctrl-C ends what runs
	defer stop()
	for _, run := range []func(ctx context.Context, dir string){withOSExec, withSafeexec} {
		dir, err := os.MkdirTemp("", "quickstart")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:gocritic // nothing runs
		}
		run(ctx, dir)
		_ = os.RemoveAll(dir)
	}
}

func withOSExec(_ context.Context, dir string) {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	begun := time.Now()
	done := make(chan struct{})
	go func() {
		_, _ = cmd.CombinedOutput()
		close(done)
	}()
	fmt.Println("os/exec   CombinedOutput")
	select {
	case <-done:
		say("returned", "after %s", since(begun))
	case <-time.After(patience):
		say("stuck", "for %s and still is: not a byte of output, no status", since(begun))
		for _, name := range []string{"worker.pid", "daemon.pid"} {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			end(pid)
		}
		<-done
		say("returned", "after %s, once both daemons were killed", since(begun))
	}
}

func withSafeexec(ctx context.Context, dir string) {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Minute))
	fmt.Println("safeexec  Run")
	say("returned", "after %s, exit code %d", res.Times.Total.Round(time.Millisecond), res.ExitCode)
	say("output", "%q", res.Stdout.String())
	for _, p := range res.Killed {
		say("ended", "%s, pid %d, which the script left behind", p.Name, p.PID)
	}
	for _, h := range res.Holders {
		say("held by", "%s, pid %d, descriptors %v, in a session of its own", h.Name, h.PID, h.FDs)
		end(h.PID)
	}
	if err != nil {
		say("error", "%v", err)
	}
}

func say(what, format string, args ...any) {
	fmt.Printf("  %-9s %s\n", what, fmt.Sprintf(format, args...))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// end kills one of our own daemons, which sleeps for a minute, so that its number is still its own.
func end(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
