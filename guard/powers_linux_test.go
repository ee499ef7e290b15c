package guard_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// anyUser returns a directory in which any user can write, and a copy of this program that any user can execute.
func anyUser(t *testing.T) (dir, exe string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	program, err := os.ReadFile(self)
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	require.NoError(t, os.Chmod(dir, 0o777))
	exe = filepath.Join(dir, "program")
	testproc.WriteExecutable(t, exe, program, 0o755)
	return dir, exe
}

// The guard has the powers of its program, and needs no more.
func TestPowers(t *testing.T) {
	setpriv := testproc.HasProgram(t, "setpriv")
	t.Parallel()
	for name, c := range map[string]struct {
		options, status string // of setpriv(1), and what /proc/PID/status has then
		root            bool   // needs it
	}{
		"none to gain":     {"--no-new-privs", "NoNewPrivs:\t1\n", false},
		"an ordinary user": {"--reuid=65534 --regid=65534 --clear-groups", "Uid:\t65534\t65534\t65534\t65534\n", true},
		"root without capabilities": {
			"--inh-caps=-all --bounding-set=-all", "CapEff:\t0000000000000000\n", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.root && testproc.Unprivileged() {
				t.Skip("needs root")
			}
			dir, exe := anyUser(t)
			log := filepath.Join(dir, "log")
			p := start(t, "wait", script, logVariable+"="+log, throughVariable+"="+setpriv+" "+c.options+" "+exe)
			p.log = log
			require.Equal(t, "started", p.line(t))
			guards := p.guards()
			require.Len(t, guards, 1)
			for _, pid := range []int{p.Process.Pid, guards[0]} {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				require.NoError(t, err)
				assert.Contains(t, string(status), c.status)
			}
			require.NoError(t, p.Process.Kill())
			p.canary.WaitGone(t)
			p.guardGone(t)
			records := p.records(t)
			require.Len(t, records, 1)
			assert.NotContains(t, records[0], "error")
		})
	}
}

// In a PID namespace whose first process does not reap, what dies stays a zombie, and so does the guard.
func TestFirstProcessDoesNotReap(t *testing.T) {
	unshare := testproc.HasProgram(t, "unshare")
	t.Parallel()
	if err := exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").Run(); err != nil {
		t.Skip("no PID namespace can be made here: ", err)
	}
	dir, exe := anyUser(t)
	first := filepath.Join(dir, "first")
	require.NoError(t, os.WriteFile(first, []byte("#!/bin/sh\n"+exe+` "$@" <&0 &
exec sleep 7050 3<&- >/dev/null`), 0o700))
	p := start(t, "wait", script, throughVariable+"="+unshare+" --pid --fork --mount-proc --kill-child "+first)
	require.Equal(t, "started", p.line(t))
	require.Len(t, p.guards(), 1)
	hosts := p.named("program")
	require.Len(t, hosts, 1)
	require.NoError(t, syscall.Kill(hosts[0], syscall.SIGKILL))
	p.guardGone(t)
	assert.Len(t, p.canary.Living(), 1, "unshare")
	records := p.records(t)
	require.Len(t, records, 1)
	assert.NotContains(t, records[0], "error")
	assert.Empty(t, records[0]["survivors"])
}

// named returns the PIDs of those processes of the program that the kernel knows by that name.
func (p *program) named(name string) (list []int) {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range comms {
		dir := filepath.Dir(path)
		text, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue
		}
		env, _ := os.ReadFile(dir + "/environ")
		if bytes.Contains(env, []byte(tokenVariable+"="+p.token+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			list = append(list, pid)
		}
	}
	return list
}
