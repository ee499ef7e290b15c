package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A server is a process that runs a command with safeexec whenever it is asked to: some of what a run
// does can only be switched off for a whole process, before its first run.
type server struct {
	*limit
}

// openServer starts one that does without the features of those names, see internal/sys. It runs a no-op, or moves so
// many bytes from a Reader through cat to a Writer.
func openServer(without []string, bytes int64) (server, error) {
	self, err := os.Executable()
	if err != nil {
		return server{}, err
	}
	dir, err := buildDir()
	if err != nil {
		return server{}, err
	}
	noop() // build it now
	arg, err := json.Marshal(request{Kind: "serve", Impl: subject, BuildDir: dir, Without: without, Bytes: bytes})
	if err != nil {
		return server{}, err
	}
	l, err := start(exec.Command(self, selfChild, string(arg)))
	return server{l}, err
}

func (s server) once() (sample, error) {
	took, cpu, _, err := s.limit.once()
	out := seconds(took)
	out.values[cpuPerOp] = cpu.Seconds()
	return out, err
}

// serve is the other side. It answers as limit.c does.
func serve(i impl, req *request) error {
	if unknown := sys.Disable(req.Without...); unknown != "" {
		return fmt.Errorf("nothing is called %q", unknown)
	}
	command, in := noop(), bufio.NewReader(os.Stdin)
	run := func() (time.Duration, error) {
		_, took, err := timed(i, &job{argv: command})
		return took, err
	}
	if req.Bytes > 0 {
		run = func() (time.Duration, error) {
			began := time.Now()
			err := toWriter(i, &job{argv: []string{"cat"}, stdin: zeros(req.Bytes)}, req.Bytes)
			return time.Since(began), err
		}
	}
	for {
		if _, err := in.ReadByte(); err != nil {
			return nil
		}
		used := selfCPU()
		took, err := run()
		if err != nil {
			return err
		}
		fmt.Println(took.Nanoseconds(), 0, (selfCPU() - used).Nanoseconds())
	}
}
