package safeexectest_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/safeexectest"
)

func TestUsageOfAFake(t *testing.T) {
	u := safeexec.Usage{User: time.Minute, CPU: safeexec.UsageExact}
	for _, want := range []safeexec.Usage{u, {}} {
		fake := new(safeexectest.Fake)
		fake.Expect("make").Return(safeexectest.Outcome{Usage: want})
		ctx := safeexectest.WithFake(t, testproc.Deadline(t), fake)
		res, err := safeexec.Run(ctx, exec.Command("make"))
		require.NoError(t, err)
		assert.Equal(t, want, res.Usage)
	}
}
