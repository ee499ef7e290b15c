// Package mirror keeps copies of git repositories. It is here to be tested: its tests reach every branch without
// starting a process.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
)

// ErrNoGit says that git is not installed.
var ErrNoGit = errors.New("mirror: git is not installed")

// ErrStuck says that a fetch did not end in time; the error says what it waited for.
var ErrStuck = errors.New("mirror: fetch is stuck")

// tries is how often a fetch is tried where the machine or the network is short of something.
const tries = 3

// limits holds for each command.
var limits = safeexec.Options(safeexec.WithTimeout(10*time.Minute), safeexec.WithGracePeriod(10*time.Second))

// Sync fetches into the repository at dir, and returns its branches.
func Sync(ctx context.Context, dir string) ([]string, error) {
	for try := 1; ; try++ {
		err := fetch(ctx, dir)
		switch {
		case err == nil:
			return branches(ctx, dir)
		case errors.Is(err, safeexec.ErrNotFound):
			return nil, ErrNoGit
		case errors.Is(err, safeexec.ErrTimeout):
			return nil, stuck(err)
		case try == tries || !worthAnother(err):
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
}

// fetch passes the credentials on the standard input.
func fetch(ctx context.Context, dir string) error {
	cmd := exec.Command("git", "fetch", "--prune", "--stdin")
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader("refs/heads/*\n")
	_, err := safeexec.Run(ctx, cmd, limits)
	return err
}

// worthAnother reports whether another try may succeed: nothing was started, or git says 128.
func worthAnother(err error) bool {
	var exit *exec.ExitError
	return safeexec.Retryable(err) || errors.As(err, &exit) && exit.ExitCode() == 128
}

// stuck names what the fetch waited for, if that is known.
func stuck(err error) error {
	var e *safeexec.Error
	if errors.As(err, &e) && e.Report != nil {
		return fmt.Errorf("%w: %s", ErrStuck, e.Report.Verdict)
	}
	return ErrStuck
}

func branches(ctx context.Context, dir string) ([]string, error) {
	cmd := exec.Command("git", "branch", "--format=%(refname)")
	cmd.Dir = dir
	out, err := safeexec.Output(ctx, cmd, limits)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// Watch runs a daemon beside what do does, and ends it after that. do is told when the daemon ends by itself. It
// returns the first line that the daemon wrote.
func Watch(ctx context.Context, do func(ended <-chan struct{}) error) (string, error) {
	p, err := safeexec.Start(ctx, exec.Command("git", "daemon"), limits)
	if err != nil {
		return "", err
	}
	failed := do(p.Done())
	res, err := p.Stop()
	if !errors.Is(err, safeexec.ErrStopped) {
		return "", errors.Join(failed, fmt.Errorf("mirror: daemon ended by itself: %w", err))
	}
	line, _, _ := strings.Cut(res.Stdout.String(), "\n")
	return line, failed
}
