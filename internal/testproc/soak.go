package testproc

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

const (
	// SoakVariable is a number by which tests multiply what they repeat in search of rare races.
	SoakVariable = "SAFEEXEC_TEST_SOAK"
	// SeedVariable is the seed of what tests choose at random.
	SeedVariable = "SAFEEXEC_TEST_SEED"
)

// Soaking reports whether this is a soak: a run that looks for rare races by repetition. Tests call it
// themselves, like Rounds.
func Soaking() bool { return os.Getenv(SoakVariable) != "" }

// Emulated reports whether this is the machine that .ci/kernels boots, whose processor is slower by far: what repeats
// itself for the sake of chance, and not of the kernel, does so less there.
func Emulated() bool { return os.Getenv("SAFEEXEC_TEST_KERNEL") != "" }

// Rounds returns how often a test does what goes wrong in rare moments only: n times, and in a soak
// as many times more as SoakVariable says. A test calls it itself, not through a function: that is
// how .ci/soak finds the tests that are worth repeating.
func Rounds(n int) int { return n * int(soakFactor()) }

// Seed returns what the test adds to the seeds of its random numbers: SeedVariable, or 0.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := soakSeed()
	if seed != 0 {
		t.Logf("%s=%d", SeedVariable, seed)
	}
	return seed
}

var (
	soakFactor = sync.OnceValue(func() uint64 { return max(1, countIn(SoakVariable)) })
	soakSeed   = sync.OnceValue(func() uint64 { return countIn(SeedVariable) })
)

// countIn returns the value of an environment variable, 0 if it is not set. It panics if that is not a
// number: a soak that were none would find nothing.
func countIn(variable string) uint64 {
	s := os.Getenv(variable)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		panic(fmt.Sprintf("testproc: %s: %v", variable, err))
	}
	return n
}
