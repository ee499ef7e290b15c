package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What depends on the whole process, its memory and its threads, is measured in a fresh one: this
// program again, with a request as its argument and the answer on its standard output.
type request struct {
	Kind     string // "sleepers", "stream" or "serve"
	Impl     string
	Commands int      // of sleepers
	Threads  int      // of sleepers: how many the Go runtime is to survive; 0: its own limit
	Bytes    int64    // of stream; of serve: from a Reader through cat to a Writer, 0 for a no-op
	Without  []string // of serve: features of internal/sys
	BuildDir string
}

type answer struct {
	Commands   int     // that were seen asleep
	Seconds    float64 // until they were, or of the stream
	Ended      float64 // seconds from the end of their context until all had returned; 0 if it does not end them
	Before     memory
	After      memory
	Goroutines int
}

// childTimeout bounds a fresh process.
const childTimeout = 10 * time.Minute

func inChild(req request) (answer, error) {
	var a answer
	self, err := os.Executable()
	if err != nil {
		return a, err
	}
	if req.BuildDir, err = buildDir(); err != nil {
		return a, err
	}
	arg, err := json.Marshal(req)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), childTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self, selfChild, string(arg))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = adopting(cmd.Run)
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return a, fmt.Errorf("%w: %s", err, first)
	}
	return a, json.Unmarshal(stdout.Bytes(), &a)
}

// childMain is the other side of inChild.
func childMain(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: REQUEST")
	}
	var req request
	if err := json.Unmarshal([]byte(args[0]), &req); err != nil {
		return err
	}
	buildDir = func() (string, error) { return req.BuildDir, nil }
	i := named(req.Impl)
	if i == nil {
		return fmt.Errorf("there is no implementation %q", req.Impl)
	}
	var a answer
	var err error
	switch req.Kind {
	case "sleepers":
		a, err = measureSleepers(*i, req.Commands, req.Threads)
	case "stream":
		a, err = measureStream(*i, req.Bytes)
	case "serve":
		return serve(*i, &req)
	default:
		err = fmt.Errorf("there is no measurement %q", req.Kind)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}
