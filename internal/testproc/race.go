package testproc

import (
	"runtime/debug"
	"slices"
	"testing"
)

// NoRaceDetector skips a test that counts allocations: with the race detector a [sync.Pool] drops some of what it is
// given.
func NoRaceDetector(t testing.TB) {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("with the race detector a sync.Pool drops some of what it is given")
	}
}
