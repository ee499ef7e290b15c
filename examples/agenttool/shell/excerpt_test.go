package shell

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExcerpt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, c := range []struct {
		size, hole int64
		want       string
	}{
		{0, 0, `^$`},
		{headSize + tailSize, 0, `^(0123456\n)+$`},
		{1 << 20, 0, `^(0123456\n){512}\n\[\d+ bytes are left out here\]\n\n(0123456\n)+$`},
		{1 << 20, 1 << 16, `^\n\[\d+ bytes are left out here\]\n\n(0123456\n)+$`},
	} {
		data := make([]byte, c.size)
		for i := c.hole; i < c.size; i++ {
			data[i] = "0123456\n"[i%8]
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
		got, err := excerpt(path)
		require.NoError(t, err)
		assert.Regexp(t, c.want, got)
	}
	assert.Equal(t, "a\uFFFDb\n", text([]byte("a\xff\x00\x07b\n")))
	assert.Equal(t, "ok done\n", text([]byte("\x1b[1;32mok\x1b[0m \x1b]8;;http://example.com\x1b\\done\x1b]8;;\x1b\\\x1b[2K\r\n")))
}
