package guard_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// stageTwo starts a helper by hand: on a socket of this process, with a table that names one process, and a cgroup if
// that is not empty. It returns our end of the socket.
func stageTwo(t *testing.T, variable string, victim *exec.Cmd, cgroup string, env ...string) (*exec.Cmd, *os.File) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	memfd, err := unix.MemfdCreate("table", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	table := os.NewFile(uintptr(memfd), "table")
	st, err := procfs.ReadStat(victim.Process.Pid)
	require.NoError(t, err)
	record := []byte{0, 0, 0, 0}
	for _, n := range []uint64{
		1,                                                    // the start
		uint64(victim.Process.Pid), st.StartTime, 0, 0, 0, 0, // its trace
		uint64(syscall.SIGKILL), 0, 1e9, // its ladder
		0, // no name
	} {
		record = binary.AppendUvarint(record, n)
	}
	record = append(binary.AppendUvarint(record, uint64(len(cgroup))), cgroup...)
	binary.LittleEndian.PutUint32(record, uint32(len(record)-4))
	_, err = table.Write(record)
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run", "^$")
	cmd.Env = slices.Concat(os.Environ(), []string{"SAFEEXEC_GUARD=" + variable, "GORACE=atexit_sleep_ms=0"}, env)
	cmd.ExtraFiles = []*os.File{theirs, table}
	out := filepath.Join(t.TempDir(), "out")
	cmd.Stdout, err = os.Create(out)
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	theirs.Close()
	table.Close()
	cmd.Stdout.(*os.File).Close()
	t.Cleanup(func() { ours.Close() })
	return cmd, ours
}

func watches(t *testing.T, pid int) string {
	t.Helper()
	st, err := procfs.ReadStat(pid)
	require.NoError(t, err)
	return fmt.Sprintf("copy:%d:%d:1", pid, st.StartTime)
}

func startVictim(t *testing.T) *exec.Cmd {
	t.Helper()
	victim := exec.Command("sleep", "7030")
	require.NoError(t, victim.Start())
	t.Cleanup(func() {
		_ = victim.Process.Kill()
		_ = victim.Wait()
	})
	return victim
}

// A helper that came too late is dismissed by a program that lives: it ends nothing.
func TestDismissed(t *testing.T) {
	for _, dismissed := range []bool{true, false} {
		t.Run(fmt.Sprint(dismissed), func(t *testing.T) {
			victim := startVictim(t)
			helper, ours := stageTwo(t, watches(t, os.Getpid()), victim, "")
			if dismissed {
				_, err := ours.Write([]byte("-"))
				require.NoError(t, err)
			}
			require.NoError(t, ours.Close(), "its hello may lie in there unread")
			_ = helper.Wait()
			assert.Equal(t, dismissed, testproc.Dead(victim.Process.Pid) == false)
		})
	}
}

// A cgroup that is not gone in time, because somebody has the lock on it, is in the log.
func TestCgroupIsLeft(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "safeexec-1-1") // what has a lock is not looked into
	require.NoError(t, os.Mkdir(dir, 0o700))
	lock, err := os.Open(dir)
	require.NoError(t, err)
	defer lock.Close()
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	log := filepath.Join(t.TempDir(), "log")
	victim := startVictim(t)
	helper, ours := stageTwo(t, watches(t, os.Getpid()), victim, dir, logVariable+"="+log)
	require.NoError(t, ours.Close())
	require.NoError(t, helper.Wait())
	records := (&program{log: log}).records(t)
	require.Len(t, records, 1)
	assert.Contains(t, records[0]["error"], dir)
	assert.Contains(t, records[0]["error"], "another process has the lock on it")
}

// Setting the variable, and opening what a helper expects, does not take over the program: the socket has to belong
// to the program that is named.
func TestForgedSocket(t *testing.T) {
	victim := startVictim(t)
	for _, variable := range []string{watches(t, os.Getppid()), "copy:1:1:1", "else:1:1:1"} {
		helper, ours := stageTwo(t, variable, victim, "")
		require.NoError(t, ours.Close())
		require.NoError(t, helper.Wait(), "it runs its tests")
		assert.False(t, testproc.Dead(victim.Process.Pid))
	}
}

// A log without a reader does not keep a tree, nor the guard for long.
func TestLogIsStuck(t *testing.T) {
	t.Parallel()
	p := start(t, "wait", script, logVariable+"="+fifo(t))
	require.Equal(t, "started", p.line(t))
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
}

func fifo(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path
}

// A program that ignores SIGCHLD has no children to wait for.
func TestProgramIgnoresItsChildren(t *testing.T) {
	t.Parallel()
	p := start(t, "without children", "echo started; exec sleep 7031")
	require.Equal(t, "started", p.line(t))
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
}
