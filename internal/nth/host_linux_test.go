package nth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

const (
	hostVariable  = "SAFEEXEC_TEST_NTH_HOST" // the scenario, in a process that makes one run
	tokenVariable = "SAFEEXEC_TEST_NTH"      // in the environment of what it starts
	hostSocket    = 3
)

func TestMain(m *testing.M) {
	if scenario, ok := os.LookupEnv(hostVariable); ok {
		os.Unsetenv(hostVariable)
		if err := host(scenario, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testproc.Main(m)
}

// A scenario is a command and its options.
type scenario struct {
	command func() *exec.Cmd
	options []safeexec.Option
	// as reports what is wrong if the run is not as it is without a fault. It is asked if there is no error
	// that says more.
	as func(res safeexec.Result, err error) string
}

const limit = time.Minute // no result depends on it but that it was not reached

var scenarios = map[string]scenario{
	"output": {
		command: func() *exec.Cmd {
			cmd := exec.Command("cat")
			cmd.Stdin = strings.NewReader("hello")
			return cmd
		},
		options: []safeexec.Option{safeexec.WithTimeout(20 * time.Second)},
		as: func(res safeexec.Result, err error) string {
			if err != nil || res.ExitCode != 0 || res.Stdout.String() != "hello" {
				return fmt.Sprintf("status %d, output %q", res.ExitCode, res.Stdout.String())
			}
			return ""
		},
	},
	"tree": {
		command: func() *exec.Cmd { return exec.Command("sh", "-c", "setsid sleep 100 & sleep 100") },
		options: []safeexec.Option{
			safeexec.WithTimeout(200 * time.Millisecond), safeexec.WithGracePeriod(200 * time.Millisecond),
		},
		as: func(res safeexec.Result, err error) string {
			if !errors.Is(err, context.DeadlineExceeded) || res.Cause != safeexec.CauseTimeout {
				return fmt.Sprintf("%v, cause %v", err, res.Cause)
			}
			return ""
		},
	},
}

// A report is what a host says about its run.
type report struct {
	Err      string
	Is       []string // what the error is, of the package's
	HasErrno bool
	Unlike   string // how the run differs from one without a fault
	Started  bool
	Elapsed  time.Duration
	Left     []string // descriptors, goroutines and children
	Zombie   bool     // a child is left that has ended
	Second   string   // what is wrong with the run after this one
}

// cutShort reports whether a look at the tree of the run, or of the one after it, did not come to its end.
func (r *report) cutShort() bool {
	return slices.Contains(r.Is, "ErrTreeUnseen") || strings.Contains(r.Second, safeexec.ErrTreeUnseen.Error())
}

var kinds = []struct {
	name string
	err  error
}{
	{"ErrSurvivors", safeexec.ErrSurvivors},
	{"ErrTreeUnseen", safeexec.ErrTreeUnseen},
	{"timeout", context.DeadlineExceeded},
}

// host makes a run under the eyes of the supervisor at the other end of the socket, and writes its report to
// standard output.
func host(name, token, errnoText string) error {
	errno, err := strconv.Atoi(errnoText)
	if err != nil {
		return err
	}
	s := scenarios[name]
	syscall.CloseOnExec(hostSocket)
	if r, w, err := os.Pipe(); err == nil { // which begins the runtime's poller
		r.Close()
		w.Close()
	}
	var hello []string
	for fd, target := range descriptors() {
		if strings.HasPrefix(target, "anon_inode:") {
			hello = append(hello, strconv.Itoa(fd))
		}
	}
	before := descriptors()
	goroutines := goleak.IgnoreCurrent()
	cmd := s.command()
	cmd.Env = append(os.Environ(), tokenVariable+"="+token)

	listener, err := listen()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(hostSocket, []byte(strings.Join(hello, " ")+"\n"), unix.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	unix.Close(listener)
	unix.Close(hostSocket)
	delete(before, hostSocket)

	mark(markBegin)
	start := time.Now()
	res, err := safeexec.Run(context.Background(), cmd, s.options...)
	elapsed := time.Since(start)
	mark(markEnd)

	r := report{Elapsed: elapsed, Unlike: s.as(res, err), Started: res.PID != 0}
	if err != nil {
		r.Err = err.Error()
		r.HasErrno = errno != 0 && errors.Is(err, syscall.Errno(errno))
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.Is = append(r.Is, k.name)
		}
	}
	r.Left, r.Zombie = left(before, goroutines)
	var out bytes.Buffer
	second := exec.Command("cat")
	second.Stdin, second.Stdout = strings.NewReader("again"), &out
	if _, err := safeexec.Run(context.Background(), second, safeexec.WithTimeout(limit/2)); err != nil || out.String() != "again" {
		r.Second = fmt.Sprintf("%v, output %q", err, out.String())
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func mark(which uintptr) { unix.RawSyscall(unix.SYS_PRCTL, which, 0, 0) }

// descriptors returns what is open, by number.
func descriptors() map[int]string {
	open := make(map[int]string)
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open[fd] = target
		}
	}
	return open
}

// left returns what is left of the run, if it does not go away, and whether a child is that only has to be
// reaped.
func left(before map[int]string, goroutines goleak.Option) (list []string, zombie bool) {
	end := time.Now().Add(limit / 6)
	for pause := time.Millisecond; ; pause *= 2 {
		list = nil
		poll.CloseIdle()
		kept := []string{"/dev/null", "/proc/loadavg"} // for later runs
		for fd, target := range descriptors() {
			if before[fd] == target {
				continue
			}
			if i := slices.Index(kept, target); i >= 0 {
				kept = slices.Delete(kept, i, i+1)
				continue
			}
			list = append(list, "descriptor "+target)
		}
		if err := goleak.Find(goroutines); err != nil {
			list = append(list, "goroutine: "+err.Error())
		}
		if len(list) == 0 || time.Now().After(end) {
			break
		}
		time.Sleep(pause)
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil {
		if zombie = info.Signo != 0; !zombie {
			list = append(list, "child")
		}
	}
	return list, zombie
}
