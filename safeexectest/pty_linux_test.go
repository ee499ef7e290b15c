package safeexectest

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

// A fake has one stream, as on a terminal, whose settings and size are seen.
func TestFakeOfATerminal(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	fake.Expect("tool").Return(Outcome{Stdout: "out\n", Stderr: "err\n"})
	ctx := WithFake(t, t.Context(), fake)
	p, err := safeexec.Start(ctx, exec.Command("tool"), bounded, safeexec.WithPTY(24, 80))
	require.NoError(t, err)
	if err := p.Resize(50, 132); err != nil {
		assert.ErrorContains(t, err, "process already finished")
	}
	assert.ErrorContains(t, p.Resize(0, 0), "Resize")
	res, err := p.Wait()
	require.NoError(t, err)
	assert.Equal(t, "out\nerr\n", string(res.Stdout.Bytes()))
	assert.Zero(t, res.Stderr.Total)
	settings := fake.Calls()[0].Settings
	assert.Equal(t, [2]int{24, 80}, [2]int{settings.PTYRows, settings.PTYCols})
}
