package procfs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A title that was written over the environment says nothing of what was there, and neither does an empty one.
func TestReadEnvironOfATitle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "environ")
	for text, want := range map[string]EnvironAnswer{"": EnvironUnknown, "a title\x00": EnvironUnknown, "A=1\x00": EnvironAbsent} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, answer, _, err := readEnviron(file{name: ".." + path}, "B")
		require.NoError(t, err)
		assert.Equal(t, want, answer, "%q", text)
	}
}

// Of an environment that is longer than the bound nothing is known, however whole its beginning looks.
func TestReadEnvironBeyondItsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "environ")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("A=1\x00"), environLimit/4+1), 0o600))
	f := file{name: ".." + path}
	_, answer, _, err := readEnviron(f, "B")
	require.ErrorIs(t, err, ErrTooBig)
	assert.Equal(t, EnvironUnknown, answer)
	value, answer, _, err := readEnviron(f, "A")
	require.NoError(t, err)
	assert.Equal(t, EnvironFound, answer)
	assert.Equal(t, "1", value)
}

// A descriptor is listed also where the kernel has no link for it, since the path is too long.
func TestWalkFDsOfAPathThatIsTooLong(t *testing.T) {
	dir, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	for range 1 + maxLink/200 {
		name := strings.Repeat("d", 200)
		require.NoError(t, dir.Mkdir(name, 0o700))
		below, err := dir.OpenRoot(name)
		require.NoError(t, err)
		dir.Close()
		dir = below
	}
	f, err := dir.Create("file")
	require.NoError(t, err)
	defer f.Close()
	dir.Close()
	var link []byte
	found := false
	require.NoError(t, WalkFDs(Self, func(fd int, text []byte) bool {
		if fd == int(f.Fd()) {
			found, link = true, bytes.Clone(text)
		}
		return true
	}))
	assert.True(t, found)
	assert.Empty(t, link)
	_, err = ReadFDLink(Self, int(f.Fd()))
	assert.ErrorIs(t, err, syscall.ENAMETOOLONG)
}

// One process with a huge environment does not cost us as much for good.
func TestLargeBufferIsNotKept(t *testing.T) {
	for range 20 { // a pool loses some
		large := make([]byte, 0, keptBuffer+1)
		putBuffer(&large)
	}
	for range 20 {
		assert.LessOrEqual(t, cap(*getBuffer()), keptBuffer)
	}
}
