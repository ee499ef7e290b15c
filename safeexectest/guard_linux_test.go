package safeexectest

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

// A fake needs no guard, so that code under test can ask for one, and its test need not call guard.Init.
func TestFakeOfAGuardedRun(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	fake.Expect("tool").Return(Outcome{})
	ctx := WithFake(t, t.Context(), fake)
	_, err := safeexec.Run(ctx, exec.Command("tool"), safeexec.WithTimeout(time.Minute), safeexec.WithGuard())
	require.NoError(t, err)
}
