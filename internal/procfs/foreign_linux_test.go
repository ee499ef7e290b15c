package procfs

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() {
	subjects["own proc"] = func(string) {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			panic(err)
		}
	}
}

// A /proc of a PID namespace below ours does not know this process. Only a thread with another mount namespace sees it.
func TestForeignWithoutANumber(t *testing.T) {
	var err error
	testproc.OwnThread(func() { err = unix.Unshare(unix.CLONE_NEWNS) })
	if err != nil {
		t.Skip("needs to make namespaces: ", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	inner := start(t, cmd, "own proc", "")
	mounts, err := os.Open("/proc/" + strconv.Itoa(inner.pid) + "/ns/mnt")
	require.NoError(t, err)
	defer mounts.Close()
	foreign := false
	testproc.OwnThread(func() {
		err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS))
		foreign = Foreign()
	})
	require.NoError(t, err)
	assert.True(t, foreign)
	assert.False(t, Foreign(), "to other threads")
}

// What was found out about one /proc does not hold for another.
func TestForeignIsAskedOfEach(t *testing.T) {
	native.Store(new(mount))
	assert.False(t, Foreign())
	assert.NotZero(t, *native.Load())
}

// Whose /proc it is takes a descriptor. Where there is none it counts as our own, as it nearly always is.
func TestForeignWithoutADescriptor(t *testing.T) {
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	none := before
	none.Cur = 0
	native.Store(nil)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	_, failed := ReadStatus(Self)
	foreign := Foreign()
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before))
	require.ErrorIs(t, failed, syscall.EMFILE)
	assert.False(t, foreign)
	assert.False(t, Foreign())
}
