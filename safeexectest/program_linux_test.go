//go:build linux

package safeexectest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

func TestProgram(t *testing.T) {
	Program(t, "the'tool", func(args []string) int {
		fmt.Printf("%q %q", args, os.Getenv(programVariable))
		return len(args)
	})
	path := Program(t, "parent", func([]string) int {
		// A tree: the other program, found by its name, from one that does not wait for it.
		child := exec.Command("hang")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	})
	Program(t, "hang", func([]string) int {
		time.Sleep(time.Minute)
		return 0
	})
	require.FileExists(t, path)

	res, err := safeexec.Run(t.Context(), exec.Command("the'tool", "-x", "a b", "$HOME"), safeexec.WithTimeout(time.Minute))
	assert.Error(t, err)
	assert.Equal(t, 3, res.ExitCode)
	assert.Equal(t, `["-x" "a b" "$HOME"] ""`, res.Stdout.String())

	res, err = safeexec.Run(t.Context(), exec.Command("parent"), safeexec.WithTimeout(time.Minute), safeexec.WithLinger(0))
	require.NoError(t, err)
	assert.NotEmpty(t, res.Killed, "the child was left")
	assert.Empty(t, res.Survivors)
}

func TestRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	use := func(t *testing.T, text string) {
		ctx := Record(t, t.Context(), file)
		cmd := exec.Command("sh", "-c", "cat; printf '\\377' >&2; exit 3")
		cmd.Stdin = strings.NewReader(text)
		res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Minute))
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, 3, res.ExitCode)
		assert.Equal(t, text, res.Stdout.String())
		assert.Equal(t, []byte{0xff}, res.Stderr.Bytes())

		res, err = safeexec.Run(ctx, exec.Command("sh", "-c", "kill -9 $$"), safeexec.WithTimeout(time.Minute))
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, 137, res.ShellCode())

		_, err = safeexec.Run(ctx, exec.Command("no-such-program"), safeexec.WithTimeout(time.Minute))
		require.ErrorIs(t, err, safeexec.ErrNotFound)
	}
	t.Run("record", func(t *testing.T) { use(t, "text") })
	require.FileExists(t, file)
	t.Run("replay", func(t *testing.T) {
		t.Setenv("PATH", "") // nothing could be run
		use(t, "text")
	})

	failures := &recorder{TB: t}
	ctx := Record(failures, t.Context(), file)
	cmd := exec.Command("sh", "-c", "cat; printf '\\377' >&2; exit 3")
	cmd.Stdin = strings.NewReader("other")
	_, _ = safeexec.Run(ctx, cmd, safeexec.WithTimeout(time.Minute))
	all := strings.Join(failures.end(), "\n")
	assert.Contains(t, all, `another standard input: "other", not "text"`)
	assert.Contains(t, all, `expected and not run: sh -c "kill -9 $$"`)

	t.Setenv(RecordVariable, "1")
	t.Run("anew", func(t *testing.T) { use(t, "more") })
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(text), "more")
}

// The bounds of the run that asks end the one that is recorded.
func TestRecordIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	t.Run("record", func(t *testing.T) {
		ctx := Record(t, t.Context(), file)
		p, err := safeexec.Start(ctx, exec.Command("sleep", "600"), safeexec.WithTimeout(time.Minute))
		require.NoError(t, err)
		_, err = p.Stop()
		assert.ErrorIs(t, err, safeexec.ErrStopped)
	})
	require.FileExists(t, file)
}
