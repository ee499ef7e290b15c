package tree_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { testproc.Roles["run-hidden"] = runHidden }

type hiddenOutcome struct {
	Killed []safeexec.ProcessInfo
	Hidden int
	Tracks safeexec.Tracks
	Err    string
}

// An ordinary user's command starts a program that runs as root and leaves the session, where hidepid
// shows nobody anything of others' processes. The slice tells even so; without it the result says how
// many there are of whom nothing can be told.
func TestHiddenProcesses(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	for _, name := range []string{"unshare", "setpriv", "setsid", "mount"} {
		testproc.HasProgram(t, name)
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	sleep, err := os.ReadFile(testproc.HasProgram(t, "sleep"))
	require.NoError(t, err)
	suid := filepath.Join(dir, "sleep")
	testproc.WriteExecutable(t, suid, sleep, 0o755)
	require.NoError(t, os.Chmod(suid, 0o755|os.ModeSetuid))

	for _, disabled := range []string{"", "slice"} {
		// The shell is PID 1 and ends the namespace, and with it whoever was not found.
		cmd := testproc.RoleCommand(t, "run-hidden")
		cmd.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
			`mount -o remount,hidepid=2 /proc && setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; exit $?`, "sh"},
			cmd.Args[0], suid)
		cmd.Path = testproc.HasProgram(t, "unshare")
		cmd.Env = append(cmd.Env, testproc.DisableVariable+"="+disabled)
		out, err := cmd.Output()
		require.NoError(t, err, "%s", out)
		var got hiddenOutcome
		require.NoError(t, json.Unmarshal(out, &got), "%s", out)
		require.Empty(t, got.Err)
		if got.Tracks.Has(safeexec.TrackSlice) {
			require.Len(t, got.Killed, 1)
			assert.Zero(t, got.Hidden)
			continue
		}
		assert.Empty(t, got.Killed)
		assert.Contains(t, []int{1, 2}, got.Hidden, "the program, and on a slow machine, where all are asked, the shell that is PID 1")
	}
}

// runHidden runs a command that leaves the program of its argument behind, which is ended here.
func runHidden(args []string) int {
	res, err := safeexec.Run(context.Background(), exec.Command("sh", "-c",
		// It is out of sight from its exec on.
		`pid=$(setsid "$0" 600 >/dev/null 2>&1 & echo $!); while [ -e /proc/$pid ]; do :; done`, args[0]),
		safeexec.WithTimeout(time.Minute))
	got := hiddenOutcome{Killed: res.Killed, Hidden: res.Hidden, Tracks: res.Tracks}
	if err != nil {
		got.Err = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(got)
	return 0
}
