//go:build linux

package output_test

import (
	"bufio"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
)

// BenchmarkLines reads a million lines in turns with a bufio.Scanner on a pipe of os/exec, and with WithLines and
// Process.Lines. It reports the medians of each turn's ratios to os/exec, of time and of this process's CPU time, and the
// heap at its largest. All commands lead a session: where the kernel schedules by session, that alone counts.
func BenchmarkLines(b *testing.B) {
	const n = 1_000_000
	program := []string{"seq", "-f", "line %.0f of a million, as a build writes them", strconv.Itoa(n)}
	command := func() *exec.Cmd { return exec.Command(program[0], program[1:]...) }
	var heap uint64
	count := func(b *testing.B, seen *int, length int) {
		if *seen++; *seen%250_000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = max(heap, m.HeapInuse)
		}
		if length == 0 {
			b.Fatal("an empty line")
		}
	}
	bounds := safeexec.Options(safeexec.WithTimeout(time.Hour), safeexec.WithOutputLimit(64<<10))
	ways := []struct {
		name string
		run  func(b *testing.B, seen *int) error
	}{
		{"os", func(b *testing.B, seen *int) error {
			cmd := command()
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				return err
			}
			if err := cmd.Start(); err != nil {
				return err
			}
			for scanner := bufio.NewScanner(out); scanner.Scan(); {
				count(b, seen, len(scanner.Text()))
			}
			return cmd.Wait()
		}},
		{"WithLines", func(b *testing.B, seen *int) error {
			_, err := safeexec.Run(b.Context(), command(), bounds,
				safeexec.WithLines(func(line safeexec.Line) { count(b, seen, len(line.Text)) }))
			return err
		}},
		{"Lines", func(b *testing.B, seen *int) error {
			p, err := safeexec.Start(b.Context(), command(), bounds)
			if err != nil {
				return err
			}
			for line := range p.Lines(b.Context()) {
				count(b, seen, len(line.Text))
			}
			_, err = p.Wait()
			return err
		}},
	}
	times, costs := make([][]float64, len(ways)), make([][]float64, len(ways))
	for b.Loop() {
		var time0, cost0 time.Duration
		for i, way := range ways {
			seen, begun, spent := 0, time.Now(), cpuTime(b)
			if err := way.run(b, &seen); err != nil || seen < n {
				b.Fatal(way.name, seen, err)
			}
			took, cost := time.Since(begun), cpuTime(b)-spent
			if i == 0 {
				time0, cost0 = took, cost
			}
			times[i] = append(times[i], float64(took)/float64(time0))
			costs[i] = append(costs[i], float64(cost)/float64(cost0))
		}
	}
	for i, way := range ways[1:] {
		b.ReportMetric(median(times[i+1]), way.name+"/os")
		b.ReportMetric(median(costs[i+1]), way.name+"-cpu/os")
	}
	b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// cpuTime returns what this process, without its children, has spent.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
