//go:build linux

package start_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["no-processes"] = noProcesses
	testproc.Roles["no-descriptors"] = noDescriptors
}

// TestStartTextBusy starts a program that another process has open for writing.
func TestStartTextBusy(t *testing.T) {
	t.Parallel()
	path := testproc.WriteProgram(t, 0o755, "#!/bin/sh\n")
	// A script is not busy itself, its interpreter would be: a program of its own is needed.
	text, err := os.ReadFile(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	testproc.WriteExecutable(t, path, text, 0o755)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { writer.Close() }()

	res, err := testrun.Run(t, exec.Command(path))
	require.ErrorIs(t, err, syscall.ETXTBSY)
	assert.Positive(t, res.StartRetries)
	assert.Equal(t, safeexec.CauseStartFailed, res.Cause)

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_, err = safeexec.Run(ctx, exec.Command(path))
	assert.ErrorIs(t, err, context.DeadlineExceeded, "no retry goes on after the deadline")

	// When it is released comes down to time: there is another try if that was too late or too soon.
	deadline := testproc.Deadline(t)
	for wait := 5 * time.Millisecond; deadline.Err() == nil; wait = min(2*wait, safeexec.DefaultStartRetry/2) {
		timer := time.AfterFunc(wait, func() { writer.Close() })
		res, err := testrun.Run(t, exec.Command(path))
		if timer.Stop() {
			writer.Close()
		}
		if err == nil && res.StartRetries > 0 {
			assert.Zero(t, res.ExitCode)
			return
		}
		if err != nil {
			require.ErrorIs(t, err, syscall.ETXTBSY)
		}
		writer, err = os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
	}
	t.Fatal("never released between two tries")
}

// makeThreads has the runtime make n threads, which it keeps: it must not need one later on, when it would not get it.
// Each waits in a system call until all do. A goroutine that is locked to its thread would not serve: for that one
// the runtime makes the next thread at a time of its own.
func makeThreads(n int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	fd := int(r.Fd()) // that blocks
	var all, threads sync.WaitGroup
	all.Add(n)
	for range n {
		threads.Go(func() {
			all.Done()
			_, _ = syscall.Read(fd, make([]byte, 1))
		})
	}
	all.Wait()
	w.Close()
	threads.Wait()
	return nil
}

// noProcesses runs a command as a user that may have no more processes.
func noProcesses([]string) int {
	_, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
	if err != nil {
		fmt.Println("warming up:", err)
		return 1
	}
	if err := makeThreads(16); err != nil {
		fmt.Println(err)
		return 1
	}
	const rlimitNproc = 6
	var old syscall.Rlimit
	if err := syscall.Getrlimit(rlimitNproc, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := syscall.Setrlimit(rlimitNproc, &syscall.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		fmt.Println(err)
		return 1
	}
	res, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
	fmt.Printf("%v, %d retries, after %v\n", err, res.StartRetries, res.Times.Total)
	if !errors.Is(err, syscall.EAGAIN) || res.StartRetries == 0 || res.Times.Total > testrun.Bound/2 {
		return 1
	}
	if err := syscall.Setrlimit(rlimitNproc, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err = safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound)); err != nil {
		fmt.Println("with the limit gone:", err)
		return 1
	}
	return 0
}

func TestStartNoProcesses(t *testing.T) {
	t.Parallel()
	for {
		out, threads, err := runWithoutProcesses(t)
		t.Logf("%s", out)
		if threads && testproc.Deadline(t).Err() == nil {
			continue // the runtime wanted one that it did not get, and gave up: that is no verdict
		}
		require.NoError(t, err)
		return
	}
}

// runWithoutProcesses performs the role, and reports whether it was the runtime that lacked a thread.
func runWithoutProcesses(t *testing.T) (out []byte, threads bool, err error) {
	t.Helper()
	role := testproc.RoleCommand(t, "no-processes")
	var stderr bytes.Buffer
	role.Stderr = &stderr
	if !testproc.Unprivileged() { // root has no such limit
		exe, err := os.Open(role.Path)
		require.NoError(t, err)
		defer exe.Close()
		// By its path, another user may not reach what "go test" built.
		role.ExtraFiles = []*os.File{exe}
		role.Path = "/proc/self/fd/3"
		role.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	role.Dir = "/"
	out, err = role.Output()
	for _, lack := range []string{"pthread_create failed", "failed to create new OS thread"} {
		threads = threads || bytes.Contains(stderr.Bytes(), []byte(lack))
	}
	if !threads {
		t.Logf("%s", stderr.Bytes())
	}
	return out, threads, err
}

// noDescriptors runs a command with room for no descriptor, for one, for two and so on, until it
// runs. Whichever step it was that failed, it says so and leaves none open.
func noDescriptors([]string) int {
	testrun.Warm()
	used := openDescriptors()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		fmt.Println(err)
		return 1
	}
	highest := 0
	for _, fd := range used {
		highest = max(highest, fd)
	}
	for limit := 3; limit < highest+64; limit++ {
		cmd := exec.Command("cat")
		cmd.Stdin = strings.NewReader("hello")
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(limit), Max: old.Max})
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)
		now := openDescriptors()
		for looks := 0; len(now) != len(used) && looks < 1000; looks++ { // who still reads from one closes it
			time.Sleep(10 * time.Millisecond)
			now = openDescriptors()
		}
		if len(now) != len(used) {
			fmt.Printf("limit %d: %v before, %v after: %v\n", limit, used, now, err)
			return 1
		}
		if err == nil {
			fmt.Printf("it takes %d descriptors beside %v; stdout is %q\n", limit-len(used), used, res.Stdout.String())
			if res.Stdout.String() != "hello" {
				return 1
			}
			return 0
		}
		if !errors.Is(err, syscall.EMFILE) {
			fmt.Printf("limit %d: %v\n", limit, err)
			return 1
		}
	}
	fmt.Println("it never ran")
	return 1
}

// openDescriptors needs no os.File, so that it does not move what it looks at.
func openDescriptors() []int {
	var open []int
	for fd := range 256 {
		if err := syscall.Fstat(fd, new(syscall.Stat_t)); err == nil {
			open = append(open, fd)
		}
	}
	return open
}

func TestStartNoDescriptors(t *testing.T) {
	t.Parallel()
	role := testproc.RoleCommand(t, "no-descriptors")
	role.Stdin = nil
	out, err := role.Output()
	t.Logf("%s", out)
	require.NoError(t, err)
}
