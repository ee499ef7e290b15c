// Supervisor keeps services running: it starts those that a file names, restarts one that fails, and
// finds them again after it was killed itself.
//
//	supervisor [-dir DIR] [-failures 5] [-backoff 15s] SERVICES
//
// SERVICES names a service a line: its name, the program and the arguments, separated by spaces. One
// that exits with 0 is done. One that fails is started again at once; after five failures within
// thirty seconds or so the next start takes fifteen. What is known of each, its log as well, is in DIR.
//
// SIGTERM and SIGINT stop the services with all their processes, and then the supervisor. SIGKILL ends
// the supervisor alone: the services go on, and the next one that uses DIR takes them over.
//
// The restart policy is that of suture; a job of package job is what it restarts. To make yours of it,
// change options, which is how a service is started, and verdict, which is when it is started again.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/thejerf/suture/v4"

	"github.com/seed841d8200/safeexec/job"
)

// grace is the time between SIGTERM and SIGKILL for a service.
const grace = 5 * time.Second

func main() { os.Exit(run()) }

func run() int {
	private := filepath.Join(os.TempDir(), fmt.Sprintf("supervisor-%d", os.Getuid()))
	dir := flag.String("dir", private, "`directory` of the records")
	failures := flag.Float64("failures", 5, "how many failures are too many")
	backoff := flag.Duration("backoff", 15*time.Second, "`time` until the next start after too many")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := supervise(ctx, *dir, flag.Arg(0), suture.Spec{
		EventHook:        func(e suture.Event) { say(e.String()) },
		FailureThreshold: *failures,
		FailureBackoff:   *backoff,
		Timeout:          2 * grace, // a service is stopped within the grace and the time that SIGKILL takes
	})
	if err != nil {
		say(err.Error())
		return 1
	}
	return 0
}

func supervise(ctx context.Context, dir, file string, spec suture.Spec) error {
	store, err := job.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	found, err := store.Adopt(ctx) // before anything is started: what runs is not started again
	if err != nil {
		return err
	}
	for _, a := range found {
		say(a.Status.String())
		if a.Err != nil {
			return a.Err
		}
	}
	services, err := parse(store, file)
	if err != nil {
		return err
	}
	supervisor := suture.New("supervisor", spec)
	for _, s := range services {
		supervisor.Add(s)
	}
	err = supervisor.Serve(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // as it was told to
	}
	for _, s := range services {
		err = errors.Join(err, s.unstopped)
	}
	return err
}

func parse(store *job.Store, file string) ([]*service, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var services []*service
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case len(words) == 1:
			return nil, fmt.Errorf("%s: service %s has no program", file, words[0])
		default:
			services = append(services, &service{store: store, name: words[0], args: words[1:]})
		}
	}
	return services, lines.Err()
}

// A service is what suture supervises.
type service struct {
	store *job.Store
	name  string
	args  []string

	unstopped error // why it could not be stopped; read after the supervisor has ended
}

func (s *service) String() string { return s.name }

func options(name string) []job.Option {
	return []job.Option{job.Name(name), job.Endless(), job.Grace(grace)}
}

// Serve takes over the job that runs, or starts it, and waits for its end. suture calls it again if it
// returns an error.
func (s *service) Serve(ctx context.Context) error {
	j, err := s.attach(ctx)
	if err != nil {
		return err
	}
	st, err := j.Wait(ctx)
	if ctx.Err() != nil {
		if _, err := j.Stop(context.WithoutCancel(ctx)); err != nil {
			s.unstopped = err
		}
		return ctx.Err()
	}
	return s.verdict(j, st, err)
}

func (s *service) attach(ctx context.Context) (*job.Job, error) {
	j, err := s.store.Find(s.name)
	if err == nil {
		st, err := j.Status()
		if err != nil || st.State == job.Running {
			return j, err
		}
	}
	j, err = s.store.Start(ctx, exec.Command(s.args[0], s.args[1:]...), options(s.name)...)
	if err == nil {
		st, _ := j.Status()
		say(st.String())
	}
	return j, err
}

// verdict says what becomes of a service that has ended: nil and ErrDoNotRestart are for good.
func (s *service) verdict(j *job.Job, st job.Status, err error) error {
	if st.Exit != nil && st.Exit.Code == 0 {
		say(st.String())
		return suture.ErrDoNotRestart
	}
	last, _ := j.Tail(1)
	for _, line := range last {
		return fmt.Errorf("%s: %q", st, line.Text)
	}
	return cmp.Or(err, errors.New(st.String()))
}

func say(text string) { fmt.Println(text) }
