package main

import (
	"slices"
	"strings"
	"testing"
)

func newTestCrowd(most, files, pids int) *crowd {
	return &crowd{b: &bench{sizes: sizes{most: most}, log: &logger{discard{}}}, files: files, pids: pids,
		needs: map[string]need{reference: {3, 1}, subject: {5, 0}}}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TestSizes has what does not fit said, by what forbids it, and replaced by the largest that does.
func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		name              string
		most, files, pids int
		want              []int
		who, why          string
	}{
		{"all fit", 20_000, 100_000, 30_000, []int{100, 4000, 12_000}, "", ""},
		{"descriptors", 20_000, 20_000, 30_000, []int{100, 3900}, subject, "descriptors"},
		{"PIDs", 20_000, 100_000, 5000, []int{100, 2500}, reference, "PIDs"},
		{"the flag", 3000, 100_000, 30_000, []int{100, 3000}, "", ""},
	} {
		c := newTestCrowd(tt.most, tt.files, tt.pids)
		if got := c.sizes([]int{100, 4000, 12_000}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
		said := slices.ContainsFunc(c.b.report.Rows, func(r row) bool {
			return r.N == 0 && r.Impl == tt.who && strings.Contains(r.Note, tt.why)
		})
		if said != (tt.who != "") {
			t.Errorf("%s: %+v", tt.name, c.b.report.Rows)
		}
	}
}

// TestDeath has a host die for want of threads, with a limit lower than the runtime's own.
func TestDeath(t *testing.T) {
	c := newTestCrowd(20_000, 100_000, 30_000)
	if !c.dies(reference, 12_000) || !c.dies(twin, 12_000) || c.dies(reference, 4000) || c.dies(subject, 12_000) {
		t.Error("os/exec needs a thread each, safeexec does not")
	}
	c.b.showDeath("commands=60", reference, 60, 30)
	rows := c.b.report.Rows
	if len(rows) != 1 || !strings.Contains(rows[0].Note, "died") || !strings.Contains(rows[0].Note, "thread") {
		t.Errorf("%+v", rows)
	}
	if a, err := inChild(request{Kind: "sleepers", Impl: subject, Commands: 60, Threads: 30}); err != nil || a.Commands != 60 {
		t.Errorf("safeexec: %+v, %v", a, err)
	}
}
