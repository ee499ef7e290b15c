// Package git runs git, with os/exec.
package git

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
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
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	cmd := r.command(ctx, args)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil { // else the error says "signal: killed"
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("git: %w: %s", err, stderr.String())
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// Lines calls f with each line that a command of git prints, as it comes, until f returns false.
func (r Repo) Lines(ctx context.Context, f func(line string) bool, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	cmd := r.command(ctx, args)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("git: %w", err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if !f(lines.Text()) {
			cancel() // or it waits for a reader
			_ = cmd.Wait()
			return nil
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if lines.Err() != nil { // a line of more than 64 KiB
		err = lines.Err()
	}
	if err != nil {
		return fmt.Errorf("git: %w: %s", err, stderr.String())
	}
	return nil
}

func (r Repo) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	return cmd
}
