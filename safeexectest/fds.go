// Package safeexectest tests code that runs commands.
//
// [WithFake] answers for commands, so that none is started, and the code needs no interface for it: it must only
// pass its context on.
//
//	fake := new(safeexectest.Fake)
//	fake.Expect("git", "fetch").Return(safeexectest.TimedOut(nil))
//	ctx := safeexectest.WithFake(t, t.Context(), fake)
//	err := mirror.Sync(ctx, dir) // calls safeexec.Run(ctx, exec.Command("git", "fetch"), …)
//
// [Program] makes real programs of functions, and [Record] replays real runs from a file.
//
// [NoLeakedFDs] and [NoLeakedProcesses] fail tests whose code leaks into children, or leaves processes behind:
//
//	func TestMirror(t *testing.T) {
//		safeexectest.NoLeakedFDs(t)
//		safeexectest.NoLeakedProcesses(t)
//		…
//	}
//
// These two are about the whole process, and so not for tests that run in parallel with others. On other
// systems than Linux they check nothing.
package safeexectest

import (
	"errors"
	"testing"

	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// NoLeakedFDs fails the test if, when it ends, there are descriptors that a child would inherit and
// that were not there, or not open to children, when NoLeakedFDs was called. Call it first, so that
// it looks after all other cleanups.
//
// What os.Open, net.Listen and their like open is never found: Go marks it close-on-exec. What is
// found comes from C libraries, from raw system calls without O_CLOEXEC, and from descriptors whose
// mark was taken away. One that was closed again before the end of the test is not found, and
// neither is one that safeexec marked in between, when the test started a command with it.
func NoLeakedFDs(t testing.TB) {
	t.Helper()
	before, err := inheritable()
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	if err != nil {
		t.Fatalf("safeexectest: %v", err)
	}
	t.Cleanup(func() {
		t.Helper()
		after, err := inheritable()
		if err != nil {
			t.Errorf("safeexectest: %v", err)
		}
		for fd := range after {
			if !before[fd] {
				t.Errorf("safeexectest: children would inherit descriptor %d: %s %s", fd.num, fd.kind, fd.target)
			}
		}
	})
}

// A descriptor names what is open: a number alone is used again.
type descriptor struct {
	num          int
	kind, target string
}

func inheritable() (map[descriptor]bool, error) {
	found := fdtable.Survey(nil)
	set := make(map[descriptor]bool)
	for _, fd := range found.Leaked {
		set[descriptor{fd.Num, fd.Kind, fd.Target}] = true
	}
	return set, found.Err
}
