package start_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestMissingInterpreter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#!/bin/bash\r\nexit 0\r\n": "/bin/bash\r", "#!/nonexistent/interpreter -e\n": "/nonexistent/interpreter",
	} {
		path := testproc.WriteProgram(t, 0o755, text)
		_, err := safeexec.Run(context.Background(), exec.Command(path), safeexec.WithTimeout(testrun.Bound))
		var missing *safeexec.InterpreterError
		require.ErrorAs(t, err, &missing)
		assert.Equal(t, want, missing.Path)
		for _, is := range []error{safeexec.ErrNotFound, exec.ErrNotFound, fs.ErrNotExist} {
			assert.ErrorIs(t, err, is)
		}
		assert.Equal(t, fmt.Sprintf("start %s: interpreter %q not found", filepath.Base(path), want), err.Error())
	}
}

// TestThreadOfItsOwn starts a command as os/exec does from a thread with a directory of its own.
func TestThreadOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(dir+"/sub", 0o755))
	testproc.OwnThread(func() {
		if !assert.NoError(t, unix.Unshare(unix.CLONE_FS)) || !assert.NoError(t, unix.Chdir(dir)) {
			return
		}
		cmd := exec.Command("/bin/pwd", "-P")
		cmd.Dir = "sub"
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		assert.NoError(t, err)
		real, err := filepath.EvalSymlinks(dir)
		assert.NoError(t, err)
		assert.Equal(t, real+"/sub", res.Stdout.String())
	})
}

// TestDeadWorkingDirectory has $PWD on a file system that does not answer, where os/exec looks for the
// absolute path of a relative Dir.
func TestDeadWorkingDirectory(t *testing.T) {
	mount := testproc.HungMount(t)
	t.Setenv("PWD", mount)
	var res safeexec.Result
	var err error
	for timeout := testrun.Soon; timeout < testrun.Bound; timeout *= 2 { // until the start comes so far in that time
		cmd := exec.Command("/bin/true")
		cmd.Dir = "."
		res, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(timeout))
		if errors.Is(err, safeexec.ErrStartStalled) {
			break
		}
	}
	require.ErrorIs(t, err, safeexec.ErrStartStalled)
	assert.Equal(t, safeexec.CauseTimeout, res.Cause)
	syscall.Unmount(mount, syscall.MNT_FORCE) // aborts it, and ends the look
}
