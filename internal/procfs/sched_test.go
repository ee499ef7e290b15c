package procfs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const schedText = "sleep (918, #threads: 1)\n---------\n" +
	"se.exec_start                                :       4365812.156117\n" +
	"se.vruntime                                  :         12345.678901\n"

func TestParseSched(t *testing.T) {
	ran, err := ParseSched([]byte(schedText))
	assert.NoError(t, err)
	assert.Equal(t, 4365812*time.Millisecond+156117, ran)

	ran, err = ParseSched([]byte("\nse.exec_start (918, #threads: 1)\n" + schedText))
	assert.NoError(t, err, "a name that holds a newline")
	assert.Equal(t, 4365812*time.Millisecond+156117, ran)

	for _, text := range []string{
		"", "\n", "se.exec_start : 1.000000", "se.exec_start : 1\n", "se.exec_start : -1.000000\n",
		"se.exec_start : 1.0000001\n", "se.exec_start : 99999999999999.000000\n", "se.exec_start\n",
	} {
		_, err := ParseSched([]byte(text))
		assert.ErrorIs(t, err, ErrSyntax, "%q", text)
	}
}

func FuzzParseSched(f *testing.F) {
	f.Add([]byte(schedText))
	f.Fuzz(func(t *testing.T, data []byte) {
		ran, err := ParseSched(data)
		if err != nil && ran != 0 || ran < 0 {
			t.Errorf("%d, %v", ran, err)
		}
	})
}
