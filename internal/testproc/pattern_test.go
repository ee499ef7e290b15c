package testproc

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCheckPattern(t *testing.T) {
	whole := make([]byte, 1000)
	FillPattern(whole, 0)
	assert.NoError(t, CheckPattern(whole, 0))
	for _, off := range []int{1, 15, 16, 17, 500} {
		part := make([]byte, 100)
		FillPattern(part, int64(off))
		assert.Equal(t, whole[off:off+100], part)
		assert.NoError(t, CheckPattern(part, int64(off)))
	}
}

// Whatever is lost, repeated, swapped or changed is found, and not later than a record after it.
func TestCheckPatternFindsDamage(t *testing.T) {
	whole := make([]byte, 1600)
	FillPattern(whole, 0)
	damaged := map[string][]byte{
		"byte lost":        slices.Delete(slices.Clone(whole), 100, 101),
		"record lost":      slices.Delete(slices.Clone(whole), 160, 176),
		"many lost":        slices.Delete(slices.Clone(whole), 160, 320),
		"beginning lost":   whole[16:],
		"record repeated":  slices.Insert(slices.Clone(whole), 160, whole[144:160]...),
		"foreign byte":     slices.Replace(slices.Clone(whole), 200, 201, 'x'),
		"records swapped":  slices.Concat(whole[:160], whole[176:192], whole[160:176], whole[192:]),
		"byte from beyond": slices.Insert(slices.Clone(whole), 7, '\n'),
	}
	for name, p := range damaged {
		assert.Error(t, CheckPattern(p, 0), name)
	}
	err := CheckPattern(damaged["many lost"], 0)
	assert.ErrorContains(t, err, "the record there is that of offset 320")
}

func TestPatternChecker(t *testing.T) {
	whole := make([]byte, 1000)
	FillPattern(whole, 0)
	var check PatternChecker
	for p := range slices.Chunk(whole, 7) {
		check.Write(p)
	}
	assert.NoError(t, check.Err)
	assert.Equal(t, int64(1000), check.N)
	check.Write(whole)
	assert.Error(t, check.Err)
}
