package sys

import (
	"os"
	"strings"
	"syscall"
	"testing"

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
		_, err := Peek(path, p, 0) // the first to follow a new link has its access time written
		require.NoError(t, err, path)
		n, err := PeekCached(path, p, 0)
		require.NoError(t, err, path)
		assert.Equal(t, "content", string(p[:n]))
		n, err = PeekCached(path, p, 3)
		require.NoError(t, err, path)
		assert.Equal(t, "tent", string(p[:n]))
	}
	for _, path := range []string{
		"", ".", "file", "/", dir, dir + "/missing", "/proc/self/stat", "/dev/null", dir + "/away", dir + "/fifo",
		"/proc/self/root" + file, "\x00", file + "\x00", "/" + strings.Repeat("./", 300) + file,
	} {
		_, err := PeekCached(path, p, 0)
		assert.Error(t, err, path)
	}
	assert.NoError(t, SearchableCached(dir))
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
