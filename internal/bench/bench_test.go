package main

import (
	"fmt"
	"testing"
)

// The benchmarks below are for benchstat -col /impl, which puts the implementations side by side.
// They run one after the other: for figures that two may argue about, use the program, which
// interleaves them.

func each(b *testing.B, w work, f func(b *testing.B, i impl)) {
	for _, i := range fitting(w) {
		if i.fits(outside) {
			continue
		}
		name := i.name
		if name == "os-safe" {
			name = "os"
		} else if name == "os" {
			name = "os-bare"
		}
		b.Run("impl="+name, func(b *testing.B) {
			b.ReportAllocs()
			f(b, i)
		})
	}
}

func must(b *testing.B, i impl, j *job) outcome {
	out, err := i.run(j)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func BenchmarkNoop(b *testing.B) {
	command := noop()
	each(b, capture, func(b *testing.B, i impl) {
		for b.Loop() {
			must(b, i, &job{argv: command})
		}
	})
}

func BenchmarkNoopAtOnce(b *testing.B) {
	command := noop()
	for _, n := range []int{2, 16} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			each(b, capture, func(b *testing.B, i impl) {
				for b.Loop() {
					if _, err := batch(i, command, n); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(b.Elapsed().Seconds()/float64(b.N*n*max(runsPerBatch/n, 1)), "sec/run")
			})
		})
	}
}

func BenchmarkOutput(b *testing.B) {
	for _, size := range []int64{1 << 10, 1 << 20} {
		command := emit(size, 64<<10)
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			each(b, capture, func(b *testing.B, i impl) {
				b.SetBytes(size)
				for b.Loop() {
					must(b, i, &job{argv: command})
				}
			})
		})
	}
}

func BenchmarkStream(b *testing.B) {
	const size = 64 << 20
	command := emit(size, 64<<10)
	each(b, stream, func(b *testing.B, i impl) {
		b.SetBytes(size)
		for b.Loop() {
			if err := toWriter(i, &job{argv: command}, size); err != nil {
				b.Fatal(err)
			}
		}
	})
}
