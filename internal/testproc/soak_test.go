package testproc

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCountIn(t *testing.T) {
	for value, want := range map[string]uint64{"": 0, "0": 0, "7": 7, "4294967295": 1<<32 - 1} {
		t.Setenv(SoakVariable, value)
		assert.Equal(t, want, countIn(SoakVariable))
	}
	for _, value := range []string{"x", "-1", "1.5", "4294967296", "10m"} {
		t.Setenv(SoakVariable, value)
		assert.Panics(t, func() { countIn(SoakVariable) }, value)
	}
}
