package safeexec_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestPTYTry(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := sh(`tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo err >&2; : >/dev/tty && echo ctty; cat`)
	cmd.Stdin = strings.NewReader("typed\nrest")
	res, err := safeexec.Run(t.Context(), cmd, safeexec.WithTimeout(bound), safeexec.WithPTY(33, 101))
	require.NoError(t, err)
	t.Logf("%q", res.Stdout.Bytes())
	res, err = safeexec.Run(t.Context(), sh("read x"), safeexec.WithTimeout(500*time.Millisecond), safeexec.WithPTY(33, 101))
	t.Log(err)
	t.Log(res.Describe(err))
	res, err = safeexec.Run(t.Context(), sh("setsid sleep 600 & exit"), safeexec.WithTimeout(bound), safeexec.WithPTY(33, 101))
	t.Log(err)
	res, err = safeexec.Run(t.Context(), exec.Command("python3", "-c", "import getpass; print(len(getpass.getpass()))"), safeexec.WithTimeout(1500*time.Millisecond), safeexec.WithPTY(33, 101))
	t.Log(err)
	t.Logf("%q", res.Stdout.Bytes())
	assert.True(t, true)
}
