//go:build linux

package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/safeexectest"
)

// There is no git, nor anything else, in the PATH. go test -cover reports 100 %.
func TestMain(m *testing.M) {
	_ = os.Setenv("PATH", "")
	os.Exit(m.Run())
}

// fakeGit returns a context with a git that does what is expected, in this order.
func fakeGit(t *testing.T) (context.Context, *safeexectest.Fake) {
	fake := &safeexectest.Fake{Ordered: true}
	return safeexectest.WithFake(t, t.Context(), fake), fake
}

func expectFetch(fake *safeexectest.Fake) *safeexectest.Expectation {
	return fake.Expect("git", "fetch", "--prune", "--stdin")
}

func expectBranches(fake *safeexectest.Fake) *safeexectest.Expectation {
	return fake.Expect("git", "branch", "--format=%(refname)")
}

func TestSync(t *testing.T) {
	t.Parallel()
	ctx, fake := fakeGit(t)
	expectFetch(fake)
	expectBranches(fake).Return(safeexectest.Outcome{Stdout: "refs/heads/main\nrefs/heads/next\n"})
	found, err := Sync(ctx, "/srv/repo")
	require.NoError(t, err)
	assert.Equal(t, []string{"refs/heads/main", "refs/heads/next"}, found)
	for _, call := range fake.Calls() {
		assert.Equal(t, "/srv/repo", call.Dir)
		assert.Equal(t, 10*time.Minute, call.Settings.Timeout)
	}
	assert.Equal(t, "refs/heads/*\n", string(fake.Calls()[0].Stdin))
}

func TestSyncFails(t *testing.T) {
	t.Parallel()
	refused := safeexectest.Outcome{ExitCode: 128}
	for name, tt := range map[string]struct {
		fetches []safeexectest.Outcome
		is      error
		text    string
	}{
		"no git":          {[]safeexectest.Outcome{safeexectest.NotFound()}, ErrNoGit, ""},
		"stuck":           {[]safeexectest.Outcome{safeexectest.TimedOut(nil)}, ErrStuck, ""},
		"stuck, and why":  {[]safeexectest.Outcome{safeexectest.TimedOut(&safeexec.Report{Verdict: "waits for ssh"})}, ErrStuck, "waits for ssh"},
		"broken":          {[]safeexectest.Outcome{{ExitCode: 1}}, nil, "mirror: exit status 1"},
		"refused thrice":  {[]safeexectest.Outcome{refused, refused, refused}, nil, "mirror: exit status 128"},
		"nothing to fork": {[]safeexectest.Outcome{safeexectest.Refused(syscall.EAGAIN), safeexectest.OOMKilled()}, safeexec.ErrOOMKilled, ""},
		"canceled":        {[]safeexectest.Outcome{safeexectest.Canceled()}, context.Canceled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, fake := fakeGit(t)
			for _, outcome := range tt.fetches {
				expectFetch(fake).Return(outcome)
			}
			_, err := Sync(ctx, "/srv/repo")
			require.Error(t, err)
			if tt.is != nil {
				assert.ErrorIs(t, err, tt.is)
			}
			assert.ErrorContains(t, err, tt.text)
		})
	}
}

func TestSyncTriesAgain(t *testing.T) {
	t.Parallel()
	ctx, fake := fakeGit(t)
	expectFetch(fake).Return(safeexectest.Outcome{ExitCode: 128}).Times(2)
	expectFetch(fake)
	expectBranches(fake).Return(safeexectest.Outcome{ExitCode: 1})
	_, err := Sync(ctx, "/srv/repo")
	assert.EqualError(t, err, "mirror: exit status 1")
}

func TestWatch(t *testing.T) {
	t.Parallel()
	nothing := func(<-chan struct{}) error { return nil }
	ctx, fake := fakeGit(t)
	ready := make(chan struct{})
	fake.Expect("git", "daemon").Return(safeexectest.Outcome{Do: func(p safeexectest.Process) int {
		_, _ = fmt.Fprintln(p.Stdout, "ready")
		close(ready)
		<-p.Killed
		return 0
	}})
	line, err := Watch(ctx, func(<-chan struct{}) error { <-ready; return nil })
	require.NoError(t, err)
	assert.Equal(t, "ready", line)

	fake.Expect("git", "daemon").Return(safeexectest.NotFound())
	_, err = Watch(ctx, nothing)
	assert.ErrorIs(t, err, safeexec.ErrNotFound)

	broken := errors.New("broken")
	fake.Expect("git", "daemon").Return(safeexectest.Outcome{ExitCode: 2})
	_, err = Watch(ctx, func(ended <-chan struct{}) error {
		<-ended
		return broken
	})
	assert.ErrorIs(t, err, broken)
}
