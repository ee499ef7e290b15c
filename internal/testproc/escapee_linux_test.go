package testproc

import (
	"io"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kindsOfEscapees reads their names from the table in main.c.
func kindsOfEscapees(t *testing.T) []string {
	t.Helper()
	source, err := escapeeSources.ReadFile("escapees/main.c")
	require.NoError(t, err)
	var kinds []string
	for _, m := range regexp.MustCompile(`\{"([a-z-]+)", [a-z_]+\}`).FindAllStringSubmatch(string(source), -1) {
		kinds = append(kinds, m[1])
	}
	require.Greater(t, len(kinds), 20)
	return kinds
}

// All of a tree holds the canary, which is how a test is sure of its end, and ends it if need be.
func TestEscapees(t *testing.T) {
	program := EscapeeProgram(t)
	for _, kind := range kindsOfEscapees(t) {
		t.Run(kind, func(t *testing.T) {
			n := "3"
			if kind == "hops" || kind == "storms" {
				n = "100"
			}
			cmd := exec.Command(program, kind, "stay", n)
			var sibling int
			t.Cleanup(func() { // after that of the canary
				if sibling != 0 {
					_, err := syscall.Wait4(sibling, nil, 0, nil)
					assert.NoError(t, err)
				}
			})
			if kind == "instant" {
				NoLeaks(t) // and says nothing
				canary := NewCanary(t)
				cmd.ExtraFiles = []*os.File{canary.File()}
				require.NoError(t, cmd.Run())
				require.True(t, poll(t, func() bool { return len(canary.Holders()) == 1 }))
				return
			}
			r, canary := startTree(t, cmd)
			first := make([]byte, 1)
			if _, err := io.ReadFull(r, first); err != nil {
				require.Equal(t, unsupportedStatus, waitStatus(t, cmd).ExitStatus())
				t.Skip("cannot be had here")
			}
			require.Equal(t, "r", string(first))
			line := ReadLine(t, r)
			pids, err := parseReady("r" + line)
			require.NoError(t, err)
			assert.Equal(t, cmd.Process.Pid, pids[0])
			for _, pid := range pids {
				if pid != 0 && kind != "hops" && kind != "storms" {
					assert.NotZero(t, State(pid), pid)
				}
				endKnown(t, pid)
			}
			if kind == "clone-sibling" {
				sibling = pids[1]
			}
			assert.True(t, canary.Alive())
		})
	}
}

// endKnown kills a process at the end of the test, if it still is the one that has the number now. Where a
// process shows nobody its descriptors, the canary cannot.
func endKnown(t *testing.T, pid int) {
	t.Helper()
	now, err := readProcess(pid)
	if pid == 0 || err != nil {
		return
	}
	t.Cleanup(func() {
		p, err := os.FindProcess(pid)
		if err != nil {
			return
		}
		defer p.Release()
		// A zombie may have threads that live.
		if same, err := readProcess(pid); err == nil && same.start == now.start {
			_ = p.Kill()
		}
	})
}

func TestBystanderNoticesSignals(t *testing.T) {
	NoLeaks(t)
	for sig, want := range map[syscall.Signal]string{
		0: "", syscall.SIGTERM: "got signal 15", syscall.SIGCONT: "got signal 18", syscall.SIGHUP: "got signal 01",
		syscall.SIGSTOP: `is in state 'T'`, syscall.SIGKILL: `is in state 'Z'`,
	} {
		b := NewBystander(t, "/usr/bin/sleep")
		p, err := readProcess(b.PID())
		require.NoError(t, err)
		assert.Equal(t, "sleep", p.comm)
		if sig != 0 {
			require.NoError(t, syscall.Kill(b.PID(), sig))
		}
		switch sig {
		case syscall.SIGSTOP:
			WaitState(t, b.PID(), "T")
		case syscall.SIGKILL:
			WaitState(t, b.PID(), "Z")
		}
		assert.Equal(t, want, b.touched(t), sig)
	}
}

// Whoever closes all descriptors and empties its environment bears the mark still, and is ended with
// the test.
func TestWitness(t *testing.T) {
	HasProgram(t, "setsid")
	var w *Witness
	t.Run("leaves a daemon", func(t *testing.T) {
		cmd := exec.Command("sh", "-c", "env -i setsid -f sleep 600 <&- >&- 2>&-")
		w = NewWitness(t, cmd)
		assert.Empty(t, w.Alive())
		other := NewWitness(t, exec.Command("true"))
		require.NoError(t, cmd.Run())
		assert.Len(t, w.Alive(), 1)
		assert.Empty(t, other.Alive())
	})
	assert.Empty(t, w.Alive())
}

func TestLives(t *testing.T) {
	p, err := readProcess(os.Getpid())
	require.NoError(t, err)
	assert.True(t, Lives(p.pid, p.start))
	assert.False(t, Lives(p.pid, p.start+1))
}
