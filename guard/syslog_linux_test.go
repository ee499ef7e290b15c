package guard_test

import (
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// The system's log has what the guard did.
func TestSyslog(t *testing.T) {
	unshare := testproc.HasProgram(t, "unshare")
	t.Parallel()
	if exists("/dev/log") {
		t.Skip("this machine has a log, which comes first")
	}
	run := t.TempDir() // what the program sees as /run
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(run, "log"), Net: "unixgram"})
	require.NoError(t, err)
	defer log.Close()
	mount := "mount --bind " + run + " /run"
	if err := exec.Command(unshare, "--mount", "sh", "-c", mount+" && [ -S /var/run/log ]").Run(); err != nil {
		t.Skip("no mount namespace can be made here: ", err)
	}
	mounted := filepath.Join(t.TempDir(), "mounted")
	script := "#!/bin/sh\n" + mount + " && exec " + executable(t) + ` "$@"`
	testproc.WriteExecutable(t, mounted, []byte(script), 0o700)
	p := start(t, withGuard, "echo started; exec sleep 7017",
		tagVariable+"=a-tag", throughVariable+"="+unshare+" --mount "+mounted)
	require.Equal(t, "started", p.line(t))
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	p.guardGone(t)
	record := make([]byte, 4096)
	deadline, _ := testproc.Deadline(t).Deadline()
	require.NoError(t, log.SetReadDeadline(deadline))
	n, err := log.Read(record)
	require.NoError(t, err)
	assert.Regexp(t, `^<28>.* a-tag\[\d+\]: \{.*"program":"sh".*"survivors":\[\]`, string(record[:n])) // daemon, warning
}
