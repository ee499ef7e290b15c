package procfs

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
)

func auxv(words ...uint64) []byte {
	var b []byte
	for _, w := range words {
		if bits.UintSize == 32 {
			b = binary.NativeEndian.AppendUint32(b, uint32(w))
		} else {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
	}
	return b
}

func TestParseExecFD(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data []byte
		fd   int
	}{
		"none":            {auxv(6, 4096, 23, 0, 0, 0), -1},
		"one":             {auxv(6, 4096, 2, 3, 0, 0), 3},
		"behind the end":  {auxv(6, 4096, 0, 0, 2, 3), -1},
		"empty":           {nil, -1},
		"cut off":         {auxv(6, 4096, 2), -1},
		"a value, no key": {auxv(6, 2, 3, 7, 0, 0), -1},
	} {
		fd, err := ParseExecFD(c.data)
		assert.NoError(t, err, name)
		assert.Equal(t, c.fd, fd, name)
	}
	_, err := ParseExecFD(auxv(2, 1<<31, 0, 0))
	assert.ErrorIs(t, err, ErrSyntax)
}

func FuzzParseExecFD(f *testing.F) {
	f.Add(auxv(6, 4096, 2, 3, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if fd, err := ParseExecFD(data); fd < -1 || err != nil && fd != -1 {
			t.Error(fd, err)
		}
	})
}
