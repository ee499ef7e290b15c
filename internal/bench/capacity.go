package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// spareFDs are descriptors of a host that are no command's.
const spareFDs = 100

// runtimeThreads is where the Go runtime ends a program, runtime/debug.SetMaxThreads, less those that
// it has for itself.
const runtimeThreads = 10_000 - 100

// A crowd knows how many commands an implementation can have at once on this machine.
type crowd struct {
	b     *bench
	files int // descriptors that a process may have
	pids  int // processes and threads that there may be besides those that there are
	needs map[string]need
}

// A need is what one command takes.
type need struct{ files, threads int }

// probed is how many commands show what one needs.
const probed = 40

func newCrowd(b *bench) (*crowd, error) {
	wanted := uint64(slices.Max(b.sleepers)*fdsPerCommand + 1000)
	raiseLimits(wanted)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	c := &crowd{b: b, files: int(min(files.Cur, math.MaxInt32)), pids: freePIDs(), needs: map[string]need{}}
	for _, i := range fitting(capture | common) {
		if i.fits(outside) {
			continue
		}
		a, err := inChild(request{Kind: "sleepers", Impl: i.name, Commands: probed})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", i.name, err)
		}
		each := func(after, before int) int { return int(math.Round(float64(after-before) / probed)) }
		c.needs[i.name] = need{each(a.After.FDs, a.Before.FDs), each(a.After.Threads, a.Before.Threads)}
	}
	return c, nil
}

// sizes returns the wanted numbers that all implementations can have. For one that some cannot have,
// there is a row that says why, and the largest number that all can have stands in.
func (c *crowd) sizes(wanted []int) []int {
	var fit []int
	largest := math.MaxInt
	for _, n := range wanted {
		if n > c.b.most {
			c.b.note("sleepers: no more than the %d of -most", c.b.most)
		}
		all := min(n, c.b.most)
		for _, i := range fitting(capture | common) {
			each, known := c.needs[i.name]
			if !known {
				continue
			}
			most, why := c.most(each)
			if most < n {
				c.b.report.addNothing("sleepers", fmt.Sprintf("commands=%d", n), i.name, "threads",
					fmt.Sprintf("does not fit: %s; at most %d", why, most))
			}
			all = min(all, most)
		}
		if all < n {
			largest = min(largest, all/100*100)
			continue
		}
		fit = append(fit, n)
	}
	if largest > 0 && largest != math.MaxInt {
		fit = append(fit, largest)
	}
	slices.Sort(fit)
	return slices.Compact(fit)
}

// most returns how many commands fit, and what forbids more.
func (c *crowd) most(each need) (most int, why string) {
	most = (c.files - spareFDs) / max(each.files, 1)
	why = fmt.Sprintf("%d descriptors each, and the hard limit of RLIMIT_NOFILE is %d", each.files, c.files)
	// A thread each is no more than the Go runtime's limit.
	n := c.pids / (1 + each.threads)
	if each.threads > 0 && n > runtimeThreads {
		n = c.pids - runtimeThreads
	}
	if n < most {
		most = n
		why = fmt.Sprintf("%d PIDs each, and %d of pid_max and threads-max may be taken", 1+each.threads, c.pids)
	}
	return most, why
}

// dies reports whether an implementation needs more threads than the Go runtime has.
func (c *crowd) dies(impl string, n int) bool {
	return n*c.needs[strings.TrimSuffix(impl, againSuffix)].threads > runtimeThreads
}

// freePIDs returns how many processes and threads may be made: it leaves a quarter of what is free to all
// others.
func freePIDs() int {
	free := math.MaxInt32
	for _, path := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		if n, err := strconv.Atoi(firstLine(path)); err == nil {
			free = min(free, n)
		}
	}
	var own syscall.Rlimit
	if os.Geteuid() != 0 && syscall.Getrlimit(rlimitNproc, &own) == nil {
		free = int(min(uint64(free), own.Cur))
	}
	// "0.20 0.18 0.12 1/80 11206": the 80 are all processes and threads, proc_loadavg(5).
	if fields := strings.Fields(firstLine("/proc/loadavg")); len(fields) > 3 {
		_, all, _ := strings.Cut(fields[3], "/")
		if n, err := strconv.Atoi(all); err == nil {
			free -= n
		}
	}
	return max(free, 0) / 4 * 3
}

const rlimitNproc = 6 // RLIMIT_NPROC, which package syscall has not

// raiseLimits asks for as many descriptors and processes as may be needed, of this process alone.
func raiseLimits(n uint64) {
	for _, which := range []int{syscall.RLIMIT_NOFILE, rlimitNproc} {
		var l syscall.Rlimit
		if syscall.Getrlimit(which, &l) != nil || l.Cur >= n {
			continue
		}
		want := syscall.Rlimit{Cur: n, Max: max(l.Max, n)}
		if syscall.Setrlimit(which, &want) != nil {
			want = syscall.Rlimit{Cur: l.Max, Max: l.Max}
			_ = syscall.Setrlimit(which, &want)
		}
	}
}
