package guard_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/guard"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/job"
)

// The variables that make the test binary a program that is to die.
const (
	hostVariable  = "SAFEEXEC_TEST_GUARD_HOST"  // what it does, see [host]
	logVariable   = "SAFEEXEC_TEST_GUARD_LOG"   // where its guard writes
	tagVariable   = "SAFEEXEC_TEST_GUARD_TAG"   // in the system's log; empty for not there
	tokenVariable = "SAFEEXEC_TEST_GUARD_TOKEN" // tells its guard from others

	throughVariable = "SAFEEXEC_TEST_GUARD_THROUGH" // a command that it executes first, with its arguments
	escapeeVariable = "SAFEEXEC_TEST_GUARD_ESCAPEE" // a program that builds trees; empty for none
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	what := os.Getenv(hostVariable)
	if what != "without Init" {
		var opts []guard.Option
		if path := os.Getenv(logVariable); path != "" {
			opts = append(opts, guard.LogFile(path))
		}
		if tag := os.Getenv(tagVariable); tag != "" {
			opts = append(opts, guard.Syslog(tag))
		}
		guard.Init(opts...)
	}
	if through, ok := os.LookupEnv(throughVariable); ok {
		os.Unsetenv(throughVariable)
		args := append(strings.Fields(through), os.Args[1:]...)
		fmt.Println("error:", syscall.Exec(args[0], args, os.Environ()))
		os.Exit(1)
	}
	if what != "" {
		os.Unsetenv(hostVariable)
		host(what)
		return
	}
	testproc.Main(m, testproc.Idle(poll.CloseIdle), testproc.Warm(func() {
		_, _ = safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(time.Minute), safeexec.WithGuard())
	}))
}

// canaryFD is the canary's descriptor in a host, and in all that it starts.
const canaryFD = 3

// firstFile is the first descriptor that a test may give a host.
const firstFile = canaryFD + 1

// diesAt begins what a host does that dies at a moment, see [fatal].
const diesAt = "dies "

// host runs the script of its first argument, and says so once that has begun. Then it does what it was told.
func host(what string) {
	die := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	opts := []safeexec.Option{
		safeexec.WithTimeout(time.Hour), safeexec.WithGracePeriod(50 * time.Millisecond), safeexec.WithGuard(),
	}
	ctx := context.Background()
	cmd := exec.Command("sh", "-c", os.Args[1])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(canaryFD, "canary")}
	switch what {
	case debugger:
		attach()
		return
	case inCgroup, inCgroupAlone:
		if what == inCgroupAlone {
			opts = opts[:len(opts)-1]
		}
		opts = append(opts, safeexec.WithContainment(safeexec.ContainmentCgroup))
	case "patient in a cgroup":
		opts = append(opts, safeexec.WithContainment(safeexec.ContainmentCgroup), safeexec.WithGracePeriod(10*time.Minute))
	case "patient":
		opts = append(opts, safeexec.WithGracePeriod(10*time.Minute))
	case "runs":
		runs(opts)
	case "many":
		many(die, opts)
	case besideJob:
		store, err := job.Open(filepath.Join(filepath.Dir(os.Getenv(logVariable)), "jobs"))
		die(err)
		_, err = store.Start(ctx, exec.Command("sleep", "7015"), job.Endless())
		die(err)
	case "without children":
		signal.Ignore(syscall.SIGCHLD)
	case withOSExec:
		die(cmd.Start())
		obey(die, nil)
		return
	case withNothing:
		opts = opts[:len(opts)-1]
	case withNotifyContext:
		opts = opts[:len(opts)-1]
		var stop context.CancelFunc
		ctx, stop = safeexec.NotifyContext(ctx)
		defer stop()
	}
	if moment, ok := strings.CutPrefix(what, diesAt); ok {
		_, err := safeexec.Run(ctx, exec.Command("true"), opts...)
		die(err)
		fmt.Println("guarded")
		die(dieAt(fatal[moment]))
	}
	p, err := safeexec.Start(ctx, cmd, opts...)
	if errors.Is(err, safeexec.ErrContainment) {
		fmt.Println("no cgroup")
		return
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		fmt.Println("refused", errors.Is(err, safeexec.ErrGuard), errors.Is(err, fs.ErrNotExist), path.Path)
		return
	}
	die(err)
	go obey(die, p)
	_, _ = p.Wait()
	if told.Load() {
		for { // until it gets the order to exit
			time.Sleep(time.Hour)
		}
	}
}

// told is set once the command is to be stopped.
var told atomic.Bool

// obey follows the orders on standard input until its end.
func obey(die func(error), p *safeexec.Process) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "exit":
			os.Exit(0)
		case "panic":
			panic("as told")
		case "execute":
			die(syscall.Exec("/bin/sleep", []string{"sleep", "0"}, nil))
		case "allocate":
			var all [][]byte
			for range 1 << 6 {
				all = append(all, bytes.Repeat([]byte{1}, 1<<24))
			}
			os.Exit(len(all))
		case "stop":
			told.Store(true)
			res, err := p.Stop()
			fmt.Println("restarts", res.GuardRestarts, errors.Is(err, safeexec.ErrStopped))
		}
	}
}

// kinds are those trees of an escapee, and those scripts, of which the tracks find all.
var (
	kinds = []string{
		"chain", "fan", "setsid", "double-fork", "no-environment", "overwrites-environment", "stopped", "ignores-all",
		"non-dumpable", "named-like-stat", "named-with-newline", "sheds-limit", "mixed", "hops", "respawns", "resurrects",
		"forks-on-term", "clone-parent", "clone-sibling", "shares-memory", "first-thread-exits", "leader-thread-exits",
		"zombie-session",
	}
	scripts = []string{
		"true", "sleep 0.01", "(setsid sleep 7000 &) ; sleep 0.02", "sleep 7000 & sleep 7000",
		"for i in 1 2 3 4 5; do sleep 7000 & done; wait",
	}
)

// runs runs commands of all kinds, four at once, until it is killed, or the test is.
func runs(opts []safeexec.Option) {
	escapee := os.Getenv(escapeeVariable)
	var began time.Time
	for range 2 { // the first starts the guard
		began = time.Now()
		_, _ = safeexec.Run(context.Background(), exec.Command("true"), opts...)
	}
	shortest := max(10*time.Millisecond, time.Since(began)) // in which something happens, on a machine of any speed
	for range 4 {
		go func() {
			for {
				cmd := exec.Command("sh", "-c", scripts[rand.IntN(len(scripts))])
				if escapee != "" && rand.IntN(2) == 0 {
					cmd = exec.Command(escapee, kinds[rand.IntN(len(kinds))], []string{"stay", "leave"}[rand.IntN(2)])
				}
				cmd.ExtraFiles = []*os.File{os.NewFile(canaryFD, "canary")}
				timeout := safeexec.WithTimeout(shortest + rand.N(4*shortest))
				_, _ = safeexec.Run(context.Background(), cmd, append(slices.Clip(opts), timeout)...)
			}
		}()
	}
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
	os.Exit(1)
}

// many starts as many of the script as it is told, one after the other, and says when they are there. The first
// starts the guard.
func many(die func(error), opts []safeexec.Option) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(in.Text())
		die(err)
		for range n {
			cmd := exec.Command("sh", "-c", os.Args[1])
			cmd.ExtraFiles = []*os.File{os.NewFile(canaryFD, "canary")}
			_, err := safeexec.Start(context.Background(), cmd, opts...)
			die(err)
		}
		fmt.Println("started")
	}
	os.Exit(1) // the test is gone
}
