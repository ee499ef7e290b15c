package main

import (
	"fmt"
	"os"
)

// logLimit is how long a log gets, in bytes.
const logLimit = 64 << 20

// A logFile takes logLimit bytes, and counts what comes later.
type logFile struct {
	*os.File
	left, lost int
}

func createLog(path string) (*logFile, error) {
	f, err := os.Create(path)
	return &logFile{File: f, left: logLimit}, err
}

func (l *logFile) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left, l.lost = l.left-n, l.lost+len(p)-n
	if _, err := l.File.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *logFile) Close() error {
	if l.lost > 0 {
		_, _ = fmt.Fprintf(l.File, "\n[%d bytes more are not here]\n", l.lost)
	}
	return l.File.Close()
}
