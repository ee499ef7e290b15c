//go:build linux

package incidents

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestMain(m *testing.M) {
	testrun.Main(m)
}

// bound is far more than any test needs.
const bound = time.Minute

// TestIncidentMySQLSafe: a start script ended in "mysqld_safe … &" and "echo start ok". It exited, and
// its caller hung for 690 seconds in a read of the script's output: the daemon had inherited the
// pipe's write end as descriptors 12 and 13, which no wrapper looks at. It was found with strace and
// the inode of the pipe.
//
// A run ends the daemon with the script. If it is not the script's, the run ends all the same and
// names it and its descriptors.
func TestIncidentMySQLSafe(t *testing.T) {
	t.Run("daemon of the script", func(t *testing.T) {
		testproc.NoLeaks(t)
		canary := testproc.NewCanary(t)
		bash := testproc.HasProgram(t, "bash") // other shells know descriptors of one digit
		cmd := exec.Command(bash, "-c", "sleep 600 12>&1 13>&2 >/dev/null 2>&1 & echo $!; echo start ok")
		cmd.ExtraFiles = []*os.File{canary.File()}
		res, err := safeexec.Run(testproc.Deadline(t), cmd)
		require.NoError(t, err)
		canary.WaitGone(t)
		assert.Equal(t, safeexec.CauseExited, res.Cause)
		require.Len(t, res.Killed, 1)
		assert.Equal(t, fmt.Sprintf("%d\nstart ok", res.Killed[0].PID), res.Stdout.String())
	})
	t.Run("daemon of somebody else", func(t *testing.T) {
		testproc.NoLeaks(t)
		gate, open, err := os.Pipe()
		require.NoError(t, err)
		defer open.Close()
		cmd := exec.Command("sh", "-c", "read go; echo start ok")
		cmd.Stdin = gate
		p, err := safeexec.Start(testproc.Deadline(t), cmd, safeexec.WithDrainTimeout(bound))
		require.NoError(t, err)
		require.NoError(t, gate.Close())
		daemon := exec.Command(testproc.HasProgram(t, "bash"), "-c", `exec 12>/proc/$0/fd/1 13>/proc/$0/fd/1; echo ready $$; exec sleep 600 >/dev/null`,
			strconv.Itoa(p.PID()))
		said, err := daemon.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, daemon.Start())
		defer func() { _ = daemon.Process.Kill(); _ = daemon.Wait() }()
		testproc.Ready(t, said)
		testproc.WaitComm(t, daemon.Process.Pid, "sleep")
		require.NoError(t, open.Close())
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrPipeHeld)
		assert.Equal(t, "start ok", res.Stdout.String())
		require.Len(t, res.Holders, 1)
		assert.Equal(t, daemon.Process.Pid, res.Holders[0].PID)
		assert.Equal(t, "sleep", res.Holders[0].Name)
		assert.Equal(t, []int{12, 13}, res.Holders[0].FDs)
		assert.False(t, testproc.Dead(daemon.Process.Pid), "it is a stranger")
	})
}

// TestIncidentStation144: an hourly job fetched from 210 stations, a process each, and joined each
// without a timeout. The one of station 144 sat in recvfrom on a socket without a timeout, its parent
// in wait4, for three days. It was found with ps, strace and gdb.
//
// The timeout says it by itself: which process waits for which, and which peer is silent.
func TestIncidentStation144(t *testing.T) {
	testproc.NoLeaks(t)
	python := testproc.HasProgram(t, "python3")
	station, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer station.Close()
	port := strconv.Itoa(station.Addr().(*net.TCPAddr).Port)
	testproc.Wait(t, func() bool { // until the machine is not too busy for the report of the end
		cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c", `"$0" -S -c "$1" "$2"; exit`, python,
			"import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)", port)
		ctx, cancel := context.WithCancel(testproc.Deadline(t))
		defer cancel()
		p, err := safeexec.Start(ctx, cmd, safeexec.WithTimeout(bound))
		require.NoError(t, err)
		conn, err := station.Accept()
		require.NoError(t, err)
		defer conn.Close()
		testproc.Wait(t, func() bool { // until it waits for the answer
			report, err := p.Report()
			return err == nil && report.Found && len(report.Chain) == 2
		})
		cancel()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrCanceled)
		if res.Report == nil || len(res.Report.Chain) < 2 {
			return false
		}
		assert.Regexp(t, `^\d+ \S+ is blocked in wait4\(\d+\).*; \d+ python3?\S* is blocked in recvfrom\(\d+ → tcp `+
			`127\.0\.0\.1:\d+ → 127\.0\.0\.1:`+port+` ESTABLISHED`, res.Report.Verdict)
		assert.Len(t, res.Report.Chain, 2)
		assert.Equal(t, p.PID(), res.Report.Chain[0].PID)
		return true
	})
}

// TestIncidentFinishedJob: a batch job logged "finished" and lived on, for the sake of the threads of
// a connection pool. The step's deadline sent it SIGTERM, and its status 143 was all that was known.
//
// A result says which side sent the signal, and why. Silence has a limit of its own.
func TestIncidentFinishedJob(t *testing.T) {
	job := func() *exec.Cmd { return exec.Command("sh", "-c", "echo finished; exec sleep 600") }
	t.Run("it is silent", func(t *testing.T) {
		testproc.NoLeaks(t)
		var res safeexec.Result
		for idle := testrun.Soon; ; idle *= 2 {
			var err error
			res, err = safeexec.Run(testproc.Deadline(t), job(), safeexec.WithIdleTimeout(idle))
			require.ErrorIs(t, err, safeexec.ErrIdle)
			if idle > bound/4 || res.Report != nil && strings.Contains(res.Report.Verdict, "sleep") {
				break // else it had not come that far, on a busy machine
			}
		}
		assert.Equal(t, "finished", res.Stdout.String())
		assert.Equal(t, safeexec.CauseIdle, res.Cause)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
		assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
		assert.Equal(t, 143, res.ShellCode())
		require.NotNil(t, res.Report)
		assert.Contains(t, res.Report.Verdict, "sleep")
	})
	t.Run("somebody else ends it", func(t *testing.T) {
		testproc.NoLeaks(t)
		res, err := safeexec.Run(testproc.Deadline(t), exec.Command("sh", "-c", "echo finished; kill -TERM $$"))
		require.Error(t, err)
		assert.Equal(t, "finished", res.Stdout.String())
		assert.Equal(t, safeexec.CauseExited, res.Cause)
		assert.Equal(t, -1, res.ExitCode)
		assert.Equal(t, safeexec.SignalerOther, res.SignaledBy)
		assert.Equal(t, 143, res.ShellCode())
		assert.Nil(t, res.Report)
	})
	t.Run("it exits with that number", func(t *testing.T) {
		testproc.NoLeaks(t)
		res, err := safeexec.Run(testproc.Deadline(t), exec.Command("sh", "-c", "exit 143"))
		require.Error(t, err)
		assert.Equal(t, 143, res.ExitCode)
		assert.Zero(t, res.Signal)
		assert.Equal(t, safeexec.SignalerNone, res.SignaledBy)
	})
}

// TestIncidentTenThousandCloseWait: the standard error of a service was a pipe to sshd, whose other side
// had gone without closing it. After a day its 64 KiB were full, all threads of the service were
// blocked in write, and sockets piled up in CLOSE_WAIT.
//
// A run reads what is over the limit and counts it. An audit names the full pipe and its reader.
func TestIncidentTenThousandCloseWait(t *testing.T) {
	t.Run("output is drained", func(t *testing.T) {
		testproc.NoLeaks(t)
		const size, limit = 1 << 20, 1000
		res, err := safeexec.Run(testproc.Deadline(t), exec.Command("sh", "-c", "head -c 1048576 /dev/zero >&2; echo served"),
			safeexec.WithOutputLimit(limit))
		require.NoError(t, err)
		assert.Equal(t, "served", res.Stdout.String())
		assert.EqualValues(t, size, res.Stderr.Total)
		assert.EqualValues(t, size-limit, res.Stderr.Dropped)
		assert.Len(t, res.Stderr.Bytes(), limit)
	})
	t.Run("the audit sees it", func(t *testing.T) {
		testproc.NoLeaks(t)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		conn, err := w.SyscallConn()
		require.NoError(t, err)
		n := 0
		require.NoError(t, conn.Write(func(fd uintptr) bool { // as much as there is room for; nobody reads
			n, err = syscall.Write(int(fd), make([]byte, 1<<20))
			return true
		}))
		require.NoError(t, err)
		list, err := safeexec.AuditFDs()
		require.NoError(t, err)
		var found *safeexec.PipeInfo
		for i := range list {
			if list[i].Pipe != nil && list[i].Write && list[i].Pipe.Unread == n {
				found = list[i].Pipe
			}
		}
		require.NotNil(t, found, "%v", list)
		assert.Equal(t, found.Size, found.Unread)
		require.Len(t, found.Peers, 1)
		assert.Equal(t, os.Getpid(), found.Peers[0].PID)
	})
}
