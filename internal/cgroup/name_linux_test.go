package cgroup

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNames(t *testing.T) {
	for _, random := range []uint64{0, 1, 0xf, math.MaxUint64, rand.Uint64()} {
		for _, pid := range []int{1, 4711, math.MaxInt32} {
			assert.True(t, isName(newName(pid, random)), newName(pid, random))
		}
	}
	for _, name := range []string{
		"", "safeexec", "safeexec-", "safeexec--", "safeexec-1", "safeexec-1-", "safeexec--1",
		"safeexec-worker.service", "safeexec-1-a.service", "safeexec-1-1-1", "safeexec-1-1 ", "safeexec-1-A",
		"safeexec-1-g", "safeexec-1-0x1", "safeexec-+1-1", "safeexec-a-1", "safeexec-1-1\n", "safeexec-1-\uff11",
		"safeexec-1-00000000000000000", "xsafeexec-1-1", "Safeexec-1-1", "safeexec-1-1/safeexec-1-1",
	} {
		assert.False(t, isName(name), "%q", name)
	}
}
