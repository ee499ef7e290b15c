package incidents

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["locked-by"] = lockedBy
	testproc.Roles["blocked-on"] = blockedOn
}

// lockedBy prints the process that has a lock on each file: the kernel does not show a process its own locks.
func lockedBy(paths []string) int {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
			lock.Pid = 0
		}
		fmt.Println(lock.Pid)
		f.Close()
	}
	return 0
}

// blockedOn blocks with the file at hand, in the way that is asked for.
func blockedOn(args []string) int {
	how, path := args[0], args[1]
	file, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 1
	}
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC) != nil {
		return 1
	}
	size, err := unix.FcntlInt(uintptr(p[1]), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return 1
	}
	ready := func() { fmt.Println("ready") }
	switch how {
	case "splice", "sendfile":
		unix.Write(p[1], make([]byte, size))
		ready()
		for err = unix.EINTR; err == unix.EINTR; {
			if how == "splice" {
				_, err = unix.Splice(file, nil, p[1], nil, 100, 0)
			} else {
				_, err = unix.Sendfile(p[1], file, nil, 100)
			}
		}
	case "dup2": // another file under the number again and again
		own, err := unix.Dup(p[0])
		if err != nil {
			return 1
		}
		go func() {
			for {
				unix.Dup3(file, p[0], 0)
				unix.Dup3(own, p[0], 0)
			}
		}()
		ready()
		for {
			unix.Read(p[0], make([]byte, 1)) // from the pipe, or the file, or neither for a signal
		}
	}
	return 0
}

// A locked file is locked by this process for as long as the test runs.
type locked []string

func (l *locked) lock(t *testing.T, kind int16, path string) *os.File {
	t.Helper()
	mode := os.O_RDONLY
	if kind == unix.F_WRLCK {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: kind}))
	*l = append(*l, path)
	return f
}

// held checks that all are still locked by this process.
func (l *locked) held(t *testing.T, after string) {
	t.Helper()
	text, err := testproc.RoleCommand(t, "locked-by", (*l)...).Output()
	require.NoError(t, err)
	for i, line := range strings.Fields(string(text)) {
		require.Equal(t, fmt.Sprint(os.Getpid()), line, "%s is not locked any more after: %s", (*l)[i], after)
	}
}

// TestIncidentLostLocks: a host lost the POSIX locks of files that a run or a report had opened and closed, as to close
// any descriptor of a file drops them (fcntl(2)).
//
// The host locks whatever a run and a report could touch, and keeps it.
func TestIncidentLostLocks(t *testing.T) {
	dir := t.TempDir()
	t.Cleanup(func() { // what could not be closed is with the next file that is read
		_, err := safeexec.Run(context.Background(), exec.Command(testproc.WriteProgram(t, 0o755, "#!/bin/sh\n")), safeexec.WithTimeout(testrun.Bound))
		assert.NoError(t, err)
	})
	var all locked
	copied := func(name string) string {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(testproc.HasProgram(t, name))
		require.NoError(t, err)
		testproc.WriteExecutable(t, path, data, 0o755)
		return path
	}
	program, shell, script := copied("cat"), copied("sh"), filepath.Join(dir, "script")
	testproc.WriteExecutable(t, script, []byte("#!"+shell+" -e\nexit 0\n"), 0o755)
	for _, path := range []string{program, shell, script} {
		all.lock(t, unix.F_RDLCK, path) // a file that is open for writing cannot be executed
	}
	data := filepath.Join(dir, "data")
	require.NoError(t, os.WriteFile(data, []byte("data"), 0o600))
	write := all.lock(t, unix.F_WRLCK, data)
	shared := filepath.Join(dir, "shared")
	require.NoError(t, os.WriteFile(shared, []byte("shared"), 0o600))
	read := all.lock(t, unix.F_RDLCK, shared)
	all.held(t, "locking")

	for range 2 { // the first time a program is read
		for name, opts := range map[string][]safeexec.Option{
			"run": nil, "run with files": {safeexec.WithFDs(int(write.Fd()), int(read.Fd()))},
			"proof": {safeexec.WithFDProof(), safeexec.WithFDs(int(write.Fd()), int(read.Fd()))},
		} {
			for _, path := range []string{program, script} {
				cmd := exec.Command(path)
				stdin, err := os.Open(os.DevNull)
				require.NoError(t, err)
				if path == script {
					cmd.Stdin = read
				} else {
					cmd.Stdin = stdin
				}
				_, err = safeexec.Run(t.Context(), cmd, append(opts, safeexec.WithTimeout(testrun.Bound))...)
				stdin.Close()
				if !errors.Is(err, safeexec.ErrProofRefused) {
					require.NoError(t, err, name)
				}
				all.held(t, name)
			}
		}
	}
	for _, how := range []string{"splice", "sendfile", "dup2"} {
		out, ready, err := os.Pipe()
		require.NoError(t, err)
		cmd := testproc.RoleCommand(t, "blocked-on", how, data)
		cmd.Stdout = ready
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithGracePeriod(time.Second))
		require.NoError(t, err)
		ready.Close()
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		for range testproc.Rounds(2) {
			testproc.Wait(t, func() bool { _, err := p.Report(); return err == nil }) // on a busy machine one can come too late
			testrun.Explained(t, p.PID(), ".")
		}
		all.held(t, "reports on "+how)
		p.Stop()
		_, _ = p.Wait()
		out.Close()
		all.held(t, "the end of "+how)
	}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	info, err := r.Stat()
	require.NoError(t, err)
	use, err := safeexec.ExplainPipe(t.Context(), info.Sys().(*syscall.Stat_t).Ino)
	require.NoError(t, err)
	assert.Positive(t, use.Size)
	_, err = safeexec.AuditFDs()
	require.NoError(t, err)
	safeexec.AuditStdio()
	all.held(t, "audits")
}
