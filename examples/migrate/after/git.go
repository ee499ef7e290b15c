// Package git runs git, with safeexec.
package git

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/seed841d8200/safeexec"
)

// A Repo is a repository in a directory.
type Repo struct {
	Dir     string
	Timeout time.Duration // of each command
}

// Run returns what a command of git prints.
func (r Repo) Run(ctx context.Context, args ...string) (string, error) {
	return r.run(ctx, nil, args)
}

// Hash stores what it reads, and returns its name.
func (r Repo) Hash(ctx context.Context, from io.Reader) (string, error) {
	return r.run(ctx, from, []string{"hash-object", "-w", "--stdin"})
}

func (r Repo) run(ctx context.Context, stdin io.Reader, args []string) (string, error) {
	cmd := r.command(args)
	cmd.Stdin = stdin
	res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(r.Timeout),
		safeexec.WithOutputLimit(64<<20), safeexec.WithOverflow(safeexec.OverflowStop))
	if err != nil {
		return "", fmt.Errorf("git: %w: %s", err, res.Stderr)
	}
	return res.Stdout.String(), nil
}

// Lines calls f with each line that a command of git prints, as it comes, until f returns false.
func (r Repo) Lines(ctx context.Context, f func(line string) bool, args ...string) error {
	p, err := safeexec.Start(ctx, r.command(args), safeexec.WithTimeout(r.Timeout))
	if err != nil {
		return fmt.Errorf("git: %w", err)
	}
	for line := range p.Lines(ctx) {
		if line.Stream == 1 && !f(line.Text) {
			_, _ = p.Stop() // or it goes on
			return nil
		}
	}
	res, err := p.Wait()
	if err != nil {
		return fmt.Errorf("git: %w: %s", err, res.Stderr)
	}
	return nil
}

func (r Repo) command(args []string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	return cmd
}
