package procfs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseExitCode(t *testing.T) {
	line := "7 (a) b) Z" + strings.Repeat(" 1", 48) + " 1792\n"
	code, err := ParseExitCode([]byte(line))
	require.NoError(t, err)
	assert.Equal(t, 7<<8, code)
	for _, bad := range []string{"", "7 (a) Z 1", strings.Replace(line, "1792", "-1", 1), strings.Replace(line, "1792", "99999", 1)} {
		_, err := ParseExitCode([]byte(bad))
		assert.Error(t, err, bad)
	}
}
