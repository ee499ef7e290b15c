package main

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// A limit is limit.c, started with the command it is to run, and asked for one run at a time.
type limit struct {
	cmd    *exec.Cmd
	ask    io.WriteCloser
	answer *bufio.Reader
}

func openLimit(argv []string) (*limit, error) {
	path, err := program("limit")
	if err != nil {
		return nil, err
	}
	return start(exec.Command(path, argv...))
}

// start starts a program that works when it is asked to.
func start(cmd *exec.Cmd) (l *limit, err error) {
	l = &limit{cmd: cmd}
	if l.ask, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.answer = bufio.NewReader(out)
	return l, l.cmd.Start()
}

// once runs the command once, timed by the C program's own clocks.
func (l *limit) once() (took, cpu time.Duration, bytes int64, err error) {
	if _, err = l.ask.Write([]byte{'\n'}); err != nil {
		return
	}
	line, err := l.answer.ReadString('\n')
	if err != nil {
		return 0, 0, 0, err
	}
	_, err = fmt.Sscan(line, &took, &bytes, &cpu)
	return
}

func (l *limit) close() {
	l.ask.Close()
	_ = l.cmd.Wait()
}

// withLimit calls race with list and an entry for the C program, if there is one.
func (b *bench) withLimit(argv []string, list []entry, total int64, n int) []lane {
	var own []entry
	var opened *limit
	for _, e := range list {
		if i := named(e.impl); i == nil || !i.fits(outside) {
			own = append(own, e)
			continue
		}
		l, err := openLimit(argv)
		if err != nil {
			b.note("%s is left out: %v", e.impl, err)
			continue
		}
		opened = l
		own = append(own, entry{e.impl, func() (sample, error) { return limitSample(l, total) }})
	}
	lanes := race(b.note, own, n)
	if opened != nil {
		opened.close()
	}
	return lanes
}

func limitSample(l *limit, total int64) (sample, error) {
	took, cpu, bytes, err := l.once()
	if err == nil && total >= 0 {
		err = wanted(outcome{total: bytes}, total)
	}
	s := sample{values: map[string]float64{secPerOp: took.Seconds(), cpuPerOp: cpu.Seconds()}, each: []float64{took.Seconds()}}
	if total > 0 {
		s.values[secPerGiB] = took.Seconds() / gib(total)
		s.values[cpuPerGiB] = cpu.Seconds() / gib(total)
	}
	return s, err
}

func gib(bytes int64) float64 { return float64(bytes) / (1 << 30) }
