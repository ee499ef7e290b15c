package job

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// heldVariable has a host keep the status of its jobs.
const heldVariable = "SAFEEXEC_TEST_JOB_HELD"

// holderOf returns the parent of a job's first process.
func holderOf(t *testing.T, st Status) proctree.Process {
	t.Helper()
	leader, err := procfs.ReadStat(st.PID)
	require.NoError(t, err)
	p := proctree.Inspect(leader.PPID)
	require.Equal(t, holderName, p.Name)
	return p
}

func awaitGone(t *testing.T, p proctree.Process) {
	t.Helper()
	testproc.Wait(t, func() bool { return !testproc.Lives(p.PID, p.Start) })
}

// gate is a FIFO that a job waits at.
func gate(t *testing.T) (path string, open func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gate")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path, func() {
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = w.WriteString("go\n")
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
}

// TestStatusIsKept has a job end while no program is there at all.
func TestStatusIsKept(t *testing.T) {
	quick(t)
	for script, want := range map[string]Exit{"exit 7": {Code: 7}, "kill -9 $$": {Code: -1, Signal: syscall.SIGKILL}} {
		t.Run(fmt.Sprint(want.Code), func(t *testing.T) {
			dir := t.TempDir()
			path, open1 := gate(t)
			first := startHost(t, dir, heldVariable+"=1")
			fmt.Fprintln(first.in, "a read go < "+path+"; "+script)
			require.Equal(t, "started a", first.line(t))
			s := open(t, dir)
			j, err := s.Find("a")
			require.NoError(t, err)
			holder := holderOf(t, status(t, j))
			first.kill()
			assert.True(t, testproc.Lives(holder.PID, holder.Start), "it survives the program")
			open1()
			awaitGone(t, holder)
			st := status(t, j)
			assert.Equal(t, Gone, st.State)
			assert.Equal(t, &want, st.Exit)
			found := adoptOne(t, s)
			assert.True(t, found.Ended)
			assert.Equal(t, Ended, found.Status.State)
			assert.Equal(t, &want, found.Status.Exit)
			r, err := read(j.dir())
			require.NoError(t, err)
			assert.NotNil(t, r.Used)
			require.NoError(t, j.Restart(deadline(t)))
			assert.Nil(t, status(t, j).Exit, "of the run before")
			_, err = j.Kill(deadline(t))
			require.NoError(t, err)
			assert.Equal(t, syscall.SIGKILL, status(t, j).Exit.Signal)
			_, err = s.Clean(deadline(t))
			require.NoError(t, err)
			assert.NoDirExists(t, j.dir())
		})
	}
}

// TestHolderIsKilled has the job go on, and its status be unknown.
func TestHolderIsKilled(t *testing.T) {
	dir := t.TempDir()
	path, open1 := gate(t)
	first := startHost(t, dir, heldVariable+"=1")
	fmt.Fprintln(first.in, "a read go < "+path+"; exit 7")
	require.Equal(t, "started a", first.line(t))
	s := open(t, dir)
	j, err := s.Find("a")
	require.NoError(t, err)
	st := status(t, j)
	holder := holderOf(t, st)
	first.kill()
	leader := proctree.Inspect(st.PID)
	require.NoError(t, syscall.Kill(holder.PID, syscall.SIGKILL))
	awaitGone(t, holder)
	assert.Equal(t, Running, status(t, j).State)
	open1()
	awaitGone(t, leader)
	found := adoptOne(t, s)
	assert.True(t, found.Ended)
	assert.Equal(t, Ended, found.Status.State)
	if found.Status.Exit != nil { // whoever has to reap it may not have done so
		assert.Equal(t, Exit{Code: 7}, *found.Status.Exit)
	}
	assert.Empty(t, mustGlob(t, filepath.Join(j.dir(), exitPrefix+"*")))
}

func mustGlob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	return paths
}

// quick has copies of this program under the race detector end at once.
func quick(t *testing.T) { t.Setenv("GORACE", "atexit_sleep_ms=0") }

// TestHolderHasNothing has a holder that is sealed, in a session of its own and not of the job's tree, and that does not
// hear what asks it to end, while its job does.
func TestHolderHasNothing(t *testing.T) {
	quick(t)
	s := open(t, t.TempDir())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), syscall.F_SETFD, 0) // not sealed by its maker
	require.Zero(t, errno)
	// What waited for its child could exit when that is ended.
	j, err := s.Start(deadline(t), sh("sleep 1000 & exec sleep 1001"), Name("a"), Endless(), KeepStatus())
	require.NoError(t, err)
	st := status(t, j)
	holder := holderOf(t, st)
	testproc.Wait(t, func() bool { // it closes what it had for the start after it has answered
		for _, link := range mustGlob(t, fmt.Sprintf("/proc/%d/fd/*", holder.PID)) {
			target, err := os.Readlink(link)
			if err == nil && (strings.HasPrefix(target, "pipe:") || strings.HasPrefix(target, "socket:") ||
				strings.Contains(target, "memfd:") || strings.HasSuffix(target, lockFile) || strings.HasSuffix(target, logFile)) {
				return false
			}
		}
		return true
	})
	stat, err := procfs.ReadStat(holder.PID)
	require.NoError(t, err)
	assert.NotEqual(t, os.Getpid(), stat.PPID)
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(holder.PID), 0, 0)
	require.Zero(t, errno)
	assert.EqualValues(t, holder.PID, session)
	for _, sig := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2,
	} {
		require.NoError(t, syscall.Kill(holder.PID, sig))
	}
	ignored, caught := signalsOf(t, st.PID)
	assert.Zero(t, ignored&(1<<(syscall.SIGTERM-1)))
	assert.Zero(t, caught&(1<<(syscall.SIGUSR1-1)))
	did, err := j.Stop(deadline(t))
	require.NoError(t, err)
	for _, p := range did.Killed {
		assert.NotEqual(t, holder.PID, p.PID)
	}
	assert.Equal(t, &Exit{Code: -1, Signal: syscall.SIGTERM}, status(t, j).Exit, "the holder was there to see it")
	awaitGone(t, holder)
}

// signalsOf reads SigIgn and SigCgt (proc_pid_status(5)).
func signalsOf(t *testing.T, pid int) (ignored, caught uint64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		switch name {
		case "SigIgn":
			ignored = n
		case "SigCgt":
			caught = n
		}
	}
	return ignored, caught
}

// TestHeldStart has what a start can do here go through a holder.
func TestHeldStart(t *testing.T) {
	quick(t)
	s := open(t, t.TempDir())
	_, err := s.Start(deadline(t), exec.Command("/nowhere/program"), Name("a"), Endless(), KeepStatus())
	require.ErrorIs(t, err, os.ErrNotExist)
	jobs, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, jobs, "a start that failed leaves no record")

	testproc.HasProgram(t, "perl")
	pidFile := filepath.Join(t.TempDir(), "pid")
	j, err := s.Start(deadline(t), sh(`umask; ulimit -n; `+send+`send "STATUS=at work
READY=1"; exec sleep 1000`), Name("a"), Timeout(time.Hour), KeepStatus(), Umask(0o027), PIDFile(pidFile),
		Limit(safeexec.LimitOpenFiles, 77), Ready(time.Minute, Notify()))
	require.NoError(t, err)
	st := status(t, j)
	assert.True(t, st.Kept)
	assert.Equal(t, "at work", st.Text)
	text, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(st.PID)+"\n", string(text))
	lines, err := j.Tail(9)
	require.NoError(t, err)
	assert.Equal(t, []string{"0027", "77"}, texts(lines))
	_, err = j.Stop(deadline(t))
	require.NoError(t, err)
	assert.NoFileExists(t, pidFile)

	got, err := s.Run(deadline(t), sh("echo quick; exit 4"), Yield(time.Minute), Endless(), KeepStatus())
	require.NoError(t, err)
	assert.Equal(t, &Exit{Code: 4}, got.Status.Exit)
	assert.Equal(t, "quick\n", string(got.Output))
}

// TestKeepStatusTakesInit has a program that has not called it.
func TestKeepStatusTakesInit(t *testing.T) {
	canHold.Store(false)
	defer canHold.Store(true)
	s := open(t, t.TempDir())
	_, err := s.Start(deadline(t), sh("true"), Name("a"), Endless(), KeepStatus())
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
}

// TestHeldStartIsKilled kills the program while a holder starts the job: the file for the number is on a file system
// that does not answer. The job is there, wholly, or is not, and its holder ends with it.
func TestHeldStartIsKilled(t *testing.T) {
	dir, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	p := startHost(t, dir, heldVariable+"=1", pidFileVariable+"="+filepath.Join(testproc.HungMount(t), "pid"))
	fmt.Fprintln(p.in, "a touch "+ran+"; exec sleep 1000")
	var r *record
	testproc.Wait(t, func() bool {
		var err error
		r, err = read(filepath.Join(dir, "a"))
		return err == nil && r.Phase == phaseStarted
	})
	leader, err := procfs.ReadStat(r.Trace.PID)
	require.NoError(t, err)
	holder := proctree.Inspect(leader.PPID)
	require.Equal(t, holderName, holder.Name)
	p.kill()
	require.True(t, testproc.Lives(r.Trace.PID, r.Trace.Start), "its holder goes on")
	require.NoError(t, syscall.Kill(holder.PID, syscall.SIGKILL))
	awaitGone(t, proctree.Process{PID: r.Trace.PID, Start: r.Trace.Start})
	assert.NoFileExists(t, ran, "it stands before its first instruction")
}

// TestForgedHolder has somebody set the variable who is not the program.
func TestForgedHolder(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	for _, text := range []string{"copy:1:2:2", "first:1:2:2", "copy:::", "x", ""} {
		cmd := exec.Command(exe, "-test.run", "^$")
		cmd.Env = append(os.Environ(), holderVariable+"="+text, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, text)
		assert.Contains(t, string(out), "PASS", text)
	}
}
