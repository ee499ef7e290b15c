package poll

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { testproc.Roles["new-refused"] = newRefused }

// An instance is kept for the next user when no watch is left and nothing has failed.
func TestInstanceIsKept(t *testing.T) {
	skipDisabled(t, "epoll")
	pipe := newPipe(t, Read)
	for name, test := range map[string]struct {
		use  func(p Poller)
		kept bool
	}{
		"not used": {func(Poller) {}, true},
		"watch removed": {func(p Poller) {
			require.NoError(t, p.Add(pipe.r, Read, 1))
			require.NoError(t, p.Remove(pipe.r))
		}, true},
		"watch left": {func(p Poller) {
			require.NoError(t, p.Add(pipe.r, Read, 1))
		}, false},
		"failed": {func(p Poller) {
			require.NoError(t, p.(*epoll).file.Close())
			_, err := p.Wait(time.Time{})
			require.Error(t, err)
		}, false},
	} {
		CloseIdle()
		p, err := New()
		require.NoError(t, err)
		test.use(p)
		p.Close()
		next, err := New()
		require.NoError(t, err)
		assert.Equal(t, test.kept, next == p, name)
		next.Close()
	}
	CloseIdle()
}

// What lies in a watcher's hands is stale once others have read what it saw: it ends no Wait.
func TestStaleReports(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		a, b := newPipe(t, Read), newPipe(t, Read)
		require.NoError(t, p.Add(a.r, Read, 1))
		require.NoError(t, p.Add(b.r, Read, 2))
		for range 5 {
			a.write(t, "a")
			b.write(t, "b")
			for len(next(t, p)) < 2 {
			}
			a.read(t)
			b.read(t)
			nothing(t, p)
		}
	})
}

// newRefused prints what New returns where the kernel refuses an epoll instance.
func newRefused(args []string) int {
	errno, err := strconv.Atoi(args[0])
	if err != nil {
		return testproc.Fail(err)
	}
	r, _, err := os.Pipe() // the runtime has its own from now on
	if err != nil {
		return testproc.Fail(err)
	}
	if err := testproc.RefuseSyscall(unix.SYS_EPOLL_CREATE1, syscall.Errno(errno)); err != nil {
		return testproc.Fail(err)
	}
	p, err := New()
	if err != nil {
		fmt.Println(err)
		return 0
	}
	defer p.Close()
	fmt.Printf("%T\n", p)
	if err := p.Add(int(r.Fd()), Read, 1); err != nil {
		return testproc.Fail(err)
	}
	return 0
}

// A kernel that has no epoll, or a filter that refuses it, leaves the portable poller; a full table of descriptors is
// the caller's to hear of.
func TestNewWhereEpollIsRefused(t *testing.T) {
	skipDisabled(t, "epoll")
	for errno, want := range map[syscall.Errno]string{
		syscall.ENOSYS: "*poll.portable\n",
		syscall.EPERM:  "*poll.portable\n",
		syscall.EMFILE: os.NewSyscallError("epoll_create1", syscall.EMFILE).Error() + "\n",
		syscall.ENFILE: os.NewSyscallError("epoll_create1", syscall.ENFILE).Error() + "\n",
	} {
		out, err := testproc.RoleCommand(t, "new-refused", strconv.Itoa(int(errno))).Output()
		require.NoError(t, err)
		assert.Equal(t, want, string(out), errno)
	}
}

func TestAddTwice(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		assert.ErrorIs(t, p.Add(pipe.r, Read, 2), syscall.EEXIST)
		require.NoError(t, p.Remove(pipe.r))
		assert.Error(t, p.Remove(pipe.r))
	})
}
