package main

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// lineBytes is the length of a line of emit.
const lineBytes = 16

// output races outputs of common sizes, and many short lines that come one by one.
func output(b *bench) error {
	for _, o := range []struct {
		name  string
		total int64
		chunk int
		n     int
	}{
		{"size=1KiB", 1 << 10, 1 << 10, b.pairs},
		{"size=1MiB", 1 << 20, 64 << 10, max(b.pairs/2, 3)},
		{fmt.Sprintf("lines=%d", b.lines), int64(b.lines) * lineBytes, lineBytes, b.few},
	} {
		command := emit(o.total, o.chunk)
		list := entries(capture|common, func(i impl) (sample, error) {
			out, took, err := timed(i, &job{argv: command})
			if err == nil {
				err = lineWanted(i, out, o.total)
			}
			return sample{values: map[string]float64{secPerOp: took.Seconds()}, each: []float64{took.Seconds()}}, err
		})
		b.report.addLanes("output", o.name, b.withLimit(command, list, o.total, o.n), secPerOp)
	}
	return nil
}

// lineWanted allows for what go-cmd, which knows lines only, cannot tell of a last line without end.
func lineWanted(i impl, out outcome, total int64) error {
	if i.name == "go-cmd" && out.total == total+1 {
		return nil
	}
	return wanted(out, total)
}

// kept is how much of a large output is kept.
const kept = 1 << 20

// throughput moves much data: captured with a bound, to a Writer, and from a Reader through cat to
// a Writer.
func throughput(b *bench) error {
	command := emit(b.bytes, 64<<10)
	list := entries(bounded|common, func(i impl) (sample, error) {
		return b.moved(i, func() error {
			out, err := i.run(&job{argv: command, keep: kept})
			if err != nil {
				return err
			}
			return wanted(out, b.bytes)
		})
	})
	b.report.addLanes("throughput", "stdout=1MiB-kept", b.withLimit(command, list, b.bytes, b.few), secPerGiB, cpuPerGiB)

	list = entries(stream|common, func(i impl) (sample, error) {
		return b.moved(i, func() error { return toWriter(i, &job{argv: command}, b.bytes) })
	})
	b.report.addLanes("throughput", "stdout=Writer", race(b.note, list, b.few), secPerGiB, cpuPerGiB)

	cat, err := exec.LookPath("cat")
	if err != nil {
		b.note("no cat: %v", err)
		return nil
	}
	list = entries(stream|input|common, func(i impl) (sample, error) {
		return b.moved(i, func() error {
			return toWriter(i, &job{argv: []string{cat}, stdin: zeros(b.bytes)}, b.bytes)
		})
	})
	b.report.addLanes("throughput", "stdin=Reader/stdout=Writer", race(b.note, list, b.few), secPerGiB, cpuPerGiB)
	return nil
}

func toWriter(i impl, j *job, total int64) error {
	var c counter
	j.stdout = &c
	if _, err := i.run(j); err != nil {
		return err
	}
	return wanted(outcome{total: c.n}, total)
}

func (b *bench) moved(_ impl, run func() error) (sample, error) {
	used, began := selfCPU(), time.Now()
	err := run()
	took, used := time.Since(began).Seconds(), selfCPU()-used
	return sample{values: map[string]float64{
		secPerGiB: took / gib(b.bytes), cpuPerGiB: used.Seconds() / gib(b.bytes),
	}}, err
}

// selfCPU is the CPU time of this process, without its children.
func selfCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
