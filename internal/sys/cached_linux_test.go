package sys

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// learnRoot skips the test where nothing can be looked at without waiting.
func learnRoot(t *testing.T, path string) {
	t.Helper()
	LearnRoot()
	if rootIs.Load() != rootLocal {
		t.Skip("the root directory is not known to be local")
	}
	fd, err := openCached(path, syscall.O_RDONLY)
	if err != nil {
		t.Skipf("%s can not be opened from the caches: %v", path, err)
	}
	Close(fd)
}

// soon tries again what the kernel need not be able to do at once: where others change directories at the
// same time, it gives up a look without locks.
func soon(t *testing.T, f func() error) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NoError(c, f()) }, 10*time.Second, time.Millisecond)
}

func TestPeekCached(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/file"
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	learnRoot(t, file)
	require.NoError(t, os.Symlink("/proc/self/stat", dir+"/away"))
	require.NoError(t, os.Symlink(file, dir+"/link"))
	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	p := make([]byte, 256)
	for _, path := range []string{file, dir + "/link"} {
		for offset, content := range map[int64]string{0: "content", 3: "tent"} {
			soon(t, func() error {
				// The first to follow a new link has its access time written, and the next one if that was in
				// the same tick of the clock.
				_, err := Peek(path, p, 0)
				require.NoError(t, err, path)
				n, err := PeekCached(path, p, offset)
				if err == nil {
					assert.Equal(t, content, string(p[:n]))
				}
				return err
			})
		}
	}
	for _, path := range []string{
		"", ".", "file", "/", dir, dir + "/missing", "/proc/self/stat", "/dev/null", dir + "/away", dir + "/fifo",
		"/proc/self/root" + file, "\x00", file + "\x00", "/" + strings.Repeat("./", 300) + file,
	} {
		_, err := PeekCached(path, p, 0)
		assert.Error(t, err, path)
	}
	soon(t, func() error { return SearchableCached(dir) })
	for _, path := range []string{"", ".", file, dir + "/missing", "/proc", dir + "/away"} {
		assert.Error(t, SearchableCached(path), path)
	}
	restore(t)
	Disable("cached")
	_, err := PeekCached(file, p, 0)
	assert.Error(t, err)
}

// Nothing is opened before it is known that an open can not hang.
func TestNothingIsOpenedBeforeTheRootIsKnown(t *testing.T) {
	file := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(file, []byte("content"), 0o600))
	learnRoot(t, file)
	before := rootIs.Load()
	t.Cleanup(func() { rootIs.Store(before) })
	for _, kind := range []int32{rootUnknown, rootOther} {
		rootIs.Store(kind)
		_, err := PeekCached(file, make([]byte, 256), 0)
		assert.ErrorIs(t, err, syscall.EAGAIN)
		assert.ErrorIs(t, SearchableCached("/"), syscall.EAGAIN)
	}
}
