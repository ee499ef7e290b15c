// Package migrate holds a package on os/exec and the same on safeexec to one test, and the documents to what
// is between them.
package migrate

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	after "github.com/seed841d8200/safeexec/examples/migrate/after"
	before "github.com/seed841d8200/safeexec/examples/migrate/before"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

var update = flag.Bool("update", false, "write the difference into the documents")

func TestMain(m *testing.M) {
	testproc.Main(m, testproc.Idle(poll.CloseIdle), testproc.Warm(func() {
		_, _ = safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(time.Minute))
	}))
}

type repo interface {
	Run(ctx context.Context, args ...string) (string, error)
	Hash(ctx context.Context, from io.Reader) (string, error)
	Lines(ctx context.Context, f func(string) bool, args ...string) error
}

var packages = []struct {
	name string
	open func(dir string, timeout time.Duration) repo
}{
	{"before", func(dir string, timeout time.Duration) repo { return before.Repo{Dir: dir, Timeout: timeout} }},
	{"after", func(dir string, timeout time.Duration) repo { return after.Repo{Dir: dir, Timeout: timeout} }},
}

// Both do the same.
func TestBoth(t *testing.T) {
	testproc.HasProgram(t, "git")
	for _, p := range packages {
		t.Run(p.name, func(t *testing.T) {
			ctx, dir := testproc.Deadline(t), t.TempDir()
			r := p.open(dir, 10*time.Minute)
			_, err := r.Run(ctx, "init", "-q")
			require.NoError(t, err)
			for _, message := range []string{"one", "two", "three"} {
				_, err = r.Run(ctx, "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", message)
				require.NoError(t, err)
			}
			out, err := r.Run(ctx, "log", "--format=%s")
			require.NoError(t, err)
			assert.Equal(t, "three\ntwo\none", out)

			name, err := r.Hash(ctx, strings.NewReader("hi\n"))
			require.NoError(t, err)
			assert.Equal(t, "45b983be36b73c0788dc9cbcb76cbb80fc7bb057", name)

			var lines []string
			collect := func(n int) func(string) bool {
				lines = nil
				return func(line string) bool { lines = append(lines, line); return len(lines) < n }
			}
			require.NoError(t, r.Lines(ctx, collect(10), "log", "--format=%s"))
			assert.Equal(t, []string{"three", "two", "one"}, lines)
			require.NoError(t, r.Lines(ctx, collect(2), "log", "--format=%s"))
			assert.Equal(t, []string{"three", "two"}, lines)

			var exit *exec.ExitError
			_, err = r.Run(ctx, "cat-file", "-p", "nothing")
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, 128, exit.ExitCode())
			assert.ErrorContains(t, err, "nothing")
			assert.ErrorAs(t, r.Lines(ctx, collect(1), "cat-file", "-p", "nothing"), &exit)

			// git itself waits for input that does not come.
			from, to, err := os.Pipe()
			require.NoError(t, err)
			defer func() { from.Close(); to.Close() }()
			_, err = p.open(dir, 100*time.Millisecond).Hash(ctx, from)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			canceled, cancel := context.WithCancel(ctx)
			cancel()
			_, err = r.Run(canceled, "log")
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
}

// TestChild has git run a program that hangs, as a hook, a helper for credentials or ssh may. What was
// written with os/exec ends git, and waits for the program, which holds the output.
func TestChild(t *testing.T) {
	testproc.HasProgram(t, "git")
	for _, p := range packages {
		t.Run(p.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pids")
			ctx, cancel := context.WithCancel(testproc.Deadline(t))
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := p.open(t.TempDir(), 10*time.Minute).
					Run(ctx, "-c", "alias.hang=!echo $PPID $$ >"+file+".new; mv "+file+".new "+file+"; exec sleep 600", "hang")
				ended <- err
			}()
			var text []byte
			testproc.Wait(t, func() (ok bool) { text, _ = os.ReadFile(file); return len(text) > 0 })
			git, sleep, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
			gitPID, err := strconv.Atoi(git)
			require.NoError(t, err)
			pid, err := strconv.Atoi(sleep)
			require.NoError(t, err)
			cancel()
			testproc.Wait(t, func() bool { return testproc.Dead(gitPID) })
			if p.name == "before" {
				assert.Empty(t, ended, "it still waits")
				sleeping, err := os.FindProcess(pid)
				require.NoError(t, err)
				require.NoError(t, sleeping.Kill())
				assert.ErrorIs(t, <-ended, context.Canceled)
				return
			}
			assert.ErrorIs(t, <-ended, context.Canceled)
			assert.True(t, testproc.Dead(pid))
		})
	}
}

// TestDocument compares what the documents show with what is there: go test ./examples/migrate -update
// writes it.
func TestDocument(t *testing.T) {
	diff := testproc.HasProgram(t, "diff")
	const path, begin, end = "../../docs/coming-from-os-exec.md", "```diff\n", "```\n"
	cmd := exec.CommandContext(testproc.Deadline(t), diff, "-U", "3", "--label", "before/git.go", "--label", "after/git.go",
		"before/git.go", "after/git.go")
	want, _ := cmd.Output() // 1: they differ
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := bytes.Cut(text, []byte(begin))
	require.True(t, ok)
	got, tail, ok := bytes.Cut(rest, []byte("\n"+end))
	require.True(t, ok)
	if got = append(got, '\n'); *update && !bytes.Equal(got, want) {
		require.NoError(t, os.WriteFile(path, bytes.Join([][]byte{head, []byte(begin), want, []byte(end), tail}, nil), 0o644))
		return
	}
	assert.Equal(t, string(want), string(got))
}
