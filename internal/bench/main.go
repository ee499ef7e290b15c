// Bench runs the same work through os/exec, safeexec, other packages and C, interleaved in one
// process, and says how they compare.
//
//	go run . -quick
//	go run . -run latency,sleepers -out out
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sizes says how much of everything is done.
type sizes struct {
	pairs    int   // rounds of a race of short runs
	batches  int   // rounds where each runs several at once
	atOnce   []int // how many at once
	few      int   // rounds of what takes long
	most     int   // commands at once, whatever fits
	bytes    int64 // through a pipe, for throughput
	stream   int64 // through a pipe, for the memory
	lines    int
	sleepers []int
	trees    []int
	heap     int64
	fds      int
	procs    int
}

var full = sizes{
	pairs: 300, batches: 40, atOnce: []int{2, 16, 256}, few: 16, most: 20_000, bytes: 1 << 29, stream: 10 << 30, lines: 100_000,
	sleepers: []int{100, 1000, 4000, 12_000}, trees: []int{1, 10, 100, 1000}, heap: 1 << 30, fds: 10_000, procs: 2000,
}

var quick = sizes{
	pairs: 20, batches: 3, atOnce: []int{2, 16}, few: 3, most: 200, bytes: 16 << 20, stream: 64 << 20, lines: 2000,
	sleepers: []int{20}, trees: []int{1, 10}, heap: 16 << 20, fds: 200, procs: 20,
}

// A workload measures one thing and adds rows to the report.
type workload struct {
	name string
	what string
	run  func(b *bench) error
}

var workloads = []workload{
	{"latency", "a no-op and a large program, one and many at once", latency},
	{"phases", "where the time of one run goes", phases},
	{"allocs", "allocations of one run", allocs},
	{"output", "1 KiB, 1 MiB and many short lines", output},
	{"throughput", "much data through each stream, with the CPU time of the host", throughput},
	{"stream", "memory while much more passes through than is kept", streamMemory},
	{"deadline", "from the end of the context to the return, by size of the tree", deadline},
	{"killtree", "from the decision to kill until a tree in many sessions is proved empty, against cgroup.kill", killTree},
	{"shares", "a no-op without each of the marks and without the sweep", shares},
	{"sweep", "the look for what is left after a normal exit, with many other processes", sweep},
	{"held", "return after the exit when the pipe is held", held},
	{"flat", "what a large heap, many descriptors and many processes cost a run", flat},
	// Last: the load average takes minutes to forget it.
	{"sleepers", "memory and threads of many commands that sleep", sleepers},
}

// A bench is one call of the program.
type bench struct {
	sizes
	report report
	log    *logger

	publish bool // what was measured goes into the pages of the project
	render  bool // nothing is measured
}

func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(b.report.Notes, text) {
		b.report.Notes = append(b.report.Notes, text)
		b.log.printf("%s", text)
	}
}

// A logger says what is going on.
type logger struct{ w io.Writer }

func (l *logger) printf(format string, args ...any) { fmt.Fprintf(l.w, "bench: "+format+"\n", args...) }

func main() {
	runSelf()
	if err := benchMain(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func benchMain(args []string, stdout, stderr io.Writer) error {
	defer removePrograms()
	b, names, out, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if b.render {
		return render(".")
	}
	if b.publish {
		if err := publishable("."); err != nil { // it is known now and not after a quarter of an hour
			return err
		}
	}
	began := time.Now()
	b.report.Environment = newEnvironment()
	if _, err := program("noop"); err != nil {
		b.note("no C programs (%v): no c-limit, and slower commands", err)
	}
	keepAvailable(b)
	for _, w := range workloads {
		if !slices.Contains(names, w.name) {
			continue
		}
		b.log.printf("%s: %s (load %.2f)", w.name, w.what, loadAverage())
		from := time.Now()
		if err := w.run(b); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		b.log.printf("%s took %.0f s", w.name, time.Since(from).Seconds())
	}
	b.report.Environment.LoadAfter = loadAverage()
	b.report.Environment.Seconds = time.Since(began).Seconds()
	b.warn()
	b.report.text(stdout)
	if b.publish {
		if err := b.report.publish("."); err != nil {
			return err
		}
	}
	if out == "" {
		return nil
	}
	return b.write(out)
}

func parse(args []string, stderr io.Writer) (b *bench, names []string, out string, err error) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	b = &bench{sizes: full, log: &logger{stderr}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	isQuick := flags.Bool("quick", false, "tiny counts: shows that it works, measures nothing")
	run := flags.String("run", "all", "workloads, by commas: "+strings.Join(names, ","))
	pairs := flags.Int("pairs", 0, "rounds of short runs; 0: the default")
	rounds := flags.Int("rounds", 0, "rounds of long runs; 0: the default")
	sleep := flags.Int("sleepers", 0, "one more number of sleeping commands")
	most := flags.Int("most", 0, "most sleeping commands at once, however many would fit; 0: the default")
	size := flags.Int64("stream", 0, "bytes of the workload stream; 0: the default")
	only := flags.String("impl", "", "implementations, by commas; default all. The reference always runs")
	flags.BoolVar(&b.publish, "publish", false,
		"write "+publishedResults+", "+publishedPlots+", docs/performance.md and the summary in README.md; in internal/bench")
	flags.BoolVar(&b.render, "render", false, "measure nothing: draw and write again what "+publishedResults+" holds")
	flags.StringVar(&out, "out", "out", "directory for bench.txt, results.json, results.md and the plots; empty: none")
	if err := flags.Parse(args); err != nil {
		return nil, nil, "", err
	}
	if *isQuick {
		if b.publish {
			return nil, nil, "", errors.New("-quick measures nothing that could be published")
		}
		b.sizes = quick
	}
	if *pairs > 0 {
		b.pairs, b.batches = *pairs, *pairs
	}
	if *rounds > 0 {
		b.few = *rounds
	}
	if *sleep > 0 {
		b.sleepers = append(slices.Clone(b.sleepers), *sleep)
	}
	if *most > 0 {
		b.most = *most
	}
	if *size > 0 {
		b.stream = *size
	}
	if *run != "all" {
		for _, name := range strings.Split(*run, ",") {
			if !slices.Contains(names, name) {
				return nil, nil, "", fmt.Errorf("there is no workload %q", name)
			}
		}
		names = strings.Split(*run, ",")
	}
	if *only != "" {
		if err := keepImpls(strings.Split(*only, ",")); err != nil {
			return nil, nil, "", err
		}
	}
	return b, names, out, nil
}

func keepImpls(names []string) error {
	for _, name := range names {
		if named(name) == nil {
			return fmt.Errorf("there is no implementation %q", name)
		}
	}
	impls = slices.DeleteFunc(impls, func(i impl) bool {
		return i.name != reference && !slices.Contains(names, i.name)
	})
	return nil
}

// busyLoad is the load a CPU above which figures are those of a busy machine.
const busyLoad = 0.75

// warn says what speaks against the figures.
func (b *bench) warn() {
	e := &b.report.Environment
	if load := max(e.LoadBefore, e.LoadAfter); load > busyLoad*float64(e.CPUs) {
		b.note("the machine was busy: load average %.2f on %d CPUs (the benchmark itself counts)", load, e.CPUs)
	}
	noisy, compared := 0, 0
	for _, r := range b.report.Rows {
		if r.Ratio != nil && r.Impl != twin {
			compared++
		}
		if r.Verdict == withinNoise {
			noisy++
		}
	}
	if noisy > 0 {
		b.note("%d of %d ratios are smaller than the noise floor is wide, and say nothing: see the remarks", noisy, compared)
	}
}

func (b *bench) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"bench.txt", func(w io.Writer) error { b.report.benchstat(w); return nil }},
		{"results.json", b.report.json},
		{"results.md", func(w io.Writer) error { b.report.markdown(w); return nil }},
	} {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	if err := b.report.plot(dir); err != nil {
		return err
	}
	b.log.printf("wrote bench.txt, results.json, results.md and the plots to %s", dir)
	return nil
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
