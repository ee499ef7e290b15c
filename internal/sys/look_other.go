//go:build !linux

package sys

// LearnRoot has nothing to find out.
func LearnRoot() {}

// ThreadID is 0: threads are all alike here.
func ThreadID() int { return 0 }

// SeesAlike is always true.
func SeesAlike(int) bool { return true }
