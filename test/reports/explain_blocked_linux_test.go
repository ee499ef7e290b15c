package reports_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A parent waits for a child, which waits for a peer that says nothing.
func TestExplainSilentPeer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	cmd := testproc.BystanderCommand(t, "bash", "-c", `python3 -c "$1" "$2" & wait`, "bash",
		"import socket,sys; socket.create_connection(('127.0.0.1',int(sys.argv[1]))).recv(1)", port)
	testproc.HasProgram(t, "python3")
	pid := testproc.StartBystander(t, cmd)
	require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(testrun.Bound)))
	conn, err := l.Accept()
	require.NoError(t, err)
	defer conn.Close()

	report := testrun.Explained(t, pid, `^\d+ \w+ is blocked in wait4\(\d+\)[^;]*; \d+ python3?\S* is blocked in recvfrom\(\d+ → tcp `+
		`127\.0\.0\.1:\d+ → 127\.0\.0\.1:`+port+` ESTABLISHED, 0 bytes unread(, silent for \d+\w+)?, peer `+
		strconv.Itoa(os.Getpid())+` \(this process\)\)`)
	assert.True(t, report.Found)
	require.Len(t, report.Chain, 2)
	assert.Equal(t, pid, report.Chain[0].PID)
	child := process(t, &report, "python")
	assert.Equal(t, safeexec.RoleMember, child.Role)
	require.Len(t, child.Threads, 1)
	assert.Equal(t, "recvfrom", child.Threads[0].Call)
	assert.GreaterOrEqual(t, child.Threads[0].Idle, time.Duration(0), "since when")
	fd := child.Threads[0].FDs[0]
	assert.Equal(t, conn.RemoteAddr().String(), fd.Local)
	assert.Equal(t, conn.LocalAddr().String(), fd.Remote)
	assert.Equal(t, "ESTABLISHED", fd.State)
	assert.Zero(t, fd.Unread)
	if !testproc.IsDisabled("pidfd") { // the table of sockets does not tell
		assert.GreaterOrEqual(t, fd.Silent, time.Duration(0))
	}
	assert.Equal(t, []int{child.PID}, report.Processes[0].Threads[0].Children)
}

func TestExplainFullPipe(t *testing.T) {
	t.Parallel()
	t.Run("the reader sleeps", func(t *testing.T) {
		t.Parallel()
		testproc.HasProgram(t, "yes")
		pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "sh", "-c", "yes | sleep 600"))
		report := testrun.Explained(t, pid, `yes is blocked in write\(1 → pipe, 65536 of 65536 bytes, reader \d+ sleep\)`)
		fd := process(t, &report, "yes").Threads[0].FDs[0]
		assert.Equal(t, 65536, fd.Filled)
		assert.Equal(t, 65536, fd.Size)
		require.Len(t, fd.Ends, 1)
		assert.Equal(t, process(t, &report, "sleep").PID, fd.Ends[0].PID)
		assert.Equal(t, []int{0}, fd.Ends[0].FDs)
		assert.False(t, report.Deadlock)
	})
	t.Run("nobody reads", func(t *testing.T) {
		t.Parallel()
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		cmd := testproc.BystanderCommand(t, "yes")
		cmd.Stdout = w
		pid := testproc.StartBystander(t, cmd)
		w.Close()
		report := testrun.Explained(t, pid, `^\d+ yes is blocked in write\(1 → pipe, 65536 of 65536 bytes, reader `+
			strconv.Itoa(os.Getpid())+` \(this process\)`)
		assert.True(t, report.Found)
		assert.Len(t, report.Chain, 1)
	})
}

func TestExplainReadWithoutTerminal(t *testing.T) {
	t.Parallel()
	cmd := testproc.BystanderCommand(t, "bash", "-c", "read line")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	pid := testproc.StartBystander(t, cmd)
	report := testrun.Explained(t, pid, `^\d+ bash is blocked in read\(0 → pipe, 0 of 65536 bytes, writer `+
		strconv.Itoa(os.Getpid())+` \(this process\)`)
	assert.True(t, report.Found)
	assert.False(t, report.Deadlock)
}

func TestExplainFlock(t *testing.T) {
	t.Parallel()
	lock := filepath.Join(t.TempDir(), "lock")
	holder := testproc.StartBystander(t, testproc.BystanderCommand(t, "flock", lock, "sleep", "600"))
	testrun.Explained(t, holder, `sleep is blocked in clock_nanosleep`)
	waiter := testproc.StartBystander(t, testproc.BystanderCommand(t, "flock", lock, "true"))
	report := testrun.Explained(t, waiter, fmt.Sprintf(
		`^%d flock is blocked in flock\(\d+ → file\) on a lock held by %d flock[^;]*; %d flock is blocked in wait4\(\d+\)[^;]*; \d+ sleep`,
		waiter, holder, holder))
	assert.True(t, report.Found)
	assert.NotContains(t, report.Verdict, lock)
	thread := report.Processes[0].Threads[0]
	assert.Equal(t, []int{holder}, thread.Holders)
	assert.Equal(t, lock, thread.FDs[0].Path)
	assert.Contains(t, report.String(), lock)
	assert.Equal(t, safeexec.RoleOutsider, report.Processes[1].Role)
}

// The process that took a flock has ended; the one that it left the open file to has the lock.
func TestExplainFlockOfTheDead(t *testing.T) {
	t.Parallel()
	// The first PID namespace has a number of its own, PROC_PID_INIT_INO in the kernel.
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != "pid:[4026531836]" {
		t.Skipf("in a PID namespace (%s) /proc/locks leaves out locks whose taker has died", ns)
	}
	lock := filepath.Join(t.TempDir(), "lock")
	holder := testproc.StartBystander(t, testproc.BystanderCommand(t, "bash", "-c", `exec 9>"$0"; flock 9; exec sleep 600`, lock))
	testrun.Explained(t, holder, `sleep is blocked in clock_nanosleep`)
	waiter := testproc.StartBystander(t, testproc.BystanderCommand(t, "flock", lock, "true"))
	report := testrun.Explained(t, waiter, fmt.Sprintf(`on a lock held by %d sleep`, holder))
	assert.Equal(t, []int{holder}, report.Processes[0].Threads[0].Holders)
}

func TestExplainRecordLock(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	const script = `import fcntl,sys,time; f=open(sys.argv[1],"w"); fcntl.lockf(f,fcntl.LOCK_EX); time.sleep(600)`
	holder := python(t, script, file)
	testrun.Explained(t, holder, `is blocked in (clock_nanosleep|select|pselect6)`)
	waiter := python(t, script, file)
	report := testrun.Explained(t, waiter, fmt.Sprintf(`^%d \S+ is blocked in fcntl\(\d+ → file\) on a lock held by %d python`, waiter, holder))
	assert.Equal(t, []int{holder}, report.Processes[0].Threads[0].Holders)
}

func TestExplainFIFO(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "cat", fifo))
	report := testrun.Explained(t, pid, `^\d+ cat is blocked in open(at)?\(FIFO, no writer( that could be seen)?\)`)
	assert.True(t, report.Found)
	assert.Equal(t, fifo, report.Processes[0].Threads[0].FDs[0].Path)

	// With a peer that writes nothing, which is another matter.
	keep, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer keep.Close()
	report = testrun.Explained(t, pid, `^\d+ cat is blocked in read\(\d+ → FIFO, .*writer `+strconv.Itoa(os.Getpid())+` \(this process\)\)`)
	assert.Equal(t, fifo, report.Processes[0].Threads[0].FDs[0].Path)

	fifo2 := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo2, 0o600))
	pid = testproc.StartBystander(t, testproc.BystanderCommand(t, "sh", "-c", `echo >"$0"`, fifo2))
	testrun.Explained(t, pid, `is blocked in open(at)?\(FIFO, no reader( that could be seen)?\)`)
}

func TestExplainSQLite(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "db")
	const script = `
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None)
db.execute(sys.argv[2])
print("done", flush=True)
time.sleep(600)
`
	cmd := testproc.BystanderCommand(t, "python3", "-c", script, db, "begin exclusive")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	holder := testproc.StartBystander(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "done\n", line)
	waiter := python(t, script, db, "create table t (x)")
	report := testrun.Explained(t, waiter, fmt.Sprintf(`^%d \S+ is blocked in \w*nanosleep\(\d+ → file\) between tries at a lock held by %d python`, waiter, holder))
	assert.True(t, report.Found)
	assert.Equal(t, db, report.Processes[0].Threads[0].FDs[0].Path)
}

func TestExplainSSH(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "ssh", "-F", "/dev/null", "-p", port, "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "127.0.0.1", "true"))
	report := testrun.Explained(t, pid, `^\d+ ssh is blocked in \w+\(\d+ → tcp 127\.0\.0\.1:\d+ → 127\.0\.0\.1:`+port+` ESTABLISHED, 0 bytes unread`)
	assert.True(t, report.Found)
}

// What waits for one of several says for which.
func TestExplainPoll(t *testing.T) {
	t.Parallel()
	for call, script := range map[string]string{
		"poll":       `import select,os; r,w=os.pipe(); p=select.poll(); p.register(r,select.POLLIN); p.poll()`,
		`p?select6?`: `import select,os; r,w=os.pipe(); select.select([r],[],[])`,
		"epoll_wait": `import select,os; r,w=os.pipe(); p=select.epoll(); p.register(r,select.EPOLLIN); p.poll()`,
	} {
		pid := python(t, script)
		report := testrun.Explained(t, pid, `^deadlock: \d+ \S+ is blocked in `+call+`\(\d+ → pipe, 0 of 65536 bytes, writer \d+ python`)
		assert.True(t, report.Deadlock, "it has the other end itself")
	}
}

// A file system that does not answer must not be asked: neither for what the file is, nor at the end.
func TestExplainHungFile(t *testing.T) {
	var cmd *exec.Cmd
	t.Cleanup(func() { // after the file system is gone, which keeps the process until then
		if cmd != nil {
			cmd.Wait()
		}
	})
	file := testproc.HungFile(t)
	cmd = exec.Command("cat", file)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	pid := cmd.Process.Pid
	report := testrun.Explained(t, pid, `^\d+ cat is (blocked|in uninterruptible sleep) in (read|open|openat)\((\d+ → file)?\)`)
	assert.True(t, report.Found)
	assert.Contains(t, report.String(), file)
}

func TestExplainPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	_, err = io.WriteString(w, "abc")
	require.NoError(t, err)
	info, err := r.Stat()
	require.NoError(t, err)
	inode := info.Sys().(*syscall.Stat_t).Ino
	use, err := safeexec.ExplainPipe(t.Context(), inode)
	require.NoError(t, err)
	assert.Equal(t, 3, use.Filled)
	assert.Equal(t, 65536, use.Size)
	for side, holders := range map[*os.File][]safeexec.Holder{r: use.Readers, w: use.Writers} {
		require.NotEmpty(t, holders)
		var ours []int
		for _, h := range holders { // a child of another test may be between fork and exec
			if h.PID == os.Getpid() {
				ours = h.FDs
			}
		}
		conn, err := side.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, conn.Control(func(fd uintptr) { assert.Equal(t, []int{int(fd)}, ours) }))
	}
	assert.Contains(t, use.String(), "3 of 65536 bytes")
	use, err = safeexec.ExplainPipe(t.Context(), 1<<62)
	require.NoError(t, err)
	assert.Empty(t, use.Readers)
	assert.Empty(t, use.Writers)
}
