package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// An environment is what the figures depend on.
type environment struct {
	Date       time.Time `json:"date"`
	CPU        string    `json:"cpu"`
	CPUs       int       `json:"cpus"`
	GOMAXPROCS int       `json:"gomaxprocs"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	GOOS       string    `json:"goos"`
	GOARCH     string    `json:"goarch"`
	GOGC       string    `json:"gogc"`
	Seconds    float64   `json:"seconds"` // how long all of it took
	LoadBefore float64   `json:"load_before"`
	LoadAfter  float64   `json:"load_after"`
	Command    []string  `json:"command"`
}

func newEnvironment() environment {
	gogc := os.Getenv("GOGC")
	if gogc == "" {
		gogc = "100"
	}
	return environment{
		Date: time.Now().UTC().Truncate(time.Second), CPU: cpuModel(), CPUs: runtime.NumCPU(),
		GOMAXPROCS: runtime.GOMAXPROCS(0), Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Go: runtime.Version(), GOOS: runtime.GOOS, GOARCH: runtime.GOARCH, GOGC: gogc,
		LoadBefore: loadAverage(), Command: append([]string{"bench"}, os.Args[1:]...),
	}
}

func (e *environment) markdown() string {
	return fmt.Sprintf("%s, %s, %d CPUs, GOMAXPROCS %d, Linux %s, %s, GOGC %s, load average %.2f before and %.2f after, %.0f s, `%s`\n",
		e.Date.Format("2006-01-02 15:04 UTC"), e.CPU, e.CPUs, e.GOMAXPROCS, e.Kernel, e.Go, e.GOGC,
		e.LoadBefore, e.LoadAfter, e.Seconds, strings.Join(e.Command, " "))
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstLine(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(line)
}

func loadAverage() float64 {
	first, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// short is for below a picture.
func (e *environment) short() string {
	return fmt.Sprintf("%d CPUs, Linux %s, %s, %s, load %.1f to %.1f", e.CPUs, e.Kernel, e.Go,
		e.Date.Format("2006-01-02"), e.LoadBefore, e.LoadAfter)
}
