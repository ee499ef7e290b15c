package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/bitfield/script"
	"github.com/go-cmd/cmd"
	k8s "k8s.io/utils/exec"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// goCmd keeps the outputs as lines.
func goCmd(j *job) (outcome, error) {
	status := <-cmd.NewCmd(j.argv[0], j.argv[1:]...).Start()
	total := int64(0)
	for _, line := range status.Stdout {
		total += int64(len(line)) + 1
	}
	if status.Error == nil && status.Exit != 0 {
		return outcome{}, fmt.Errorf("exit status %d", status.Exit)
	}
	return outcome{total: total}, status.Error
}

func k8sExec(j *job) (outcome, error) {
	ctx, cancel := context.WithTimeout(j.context(), runTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := k8s.New().CommandContext(ctx, j.argv[0], j.argv[1:]...)
	if j.stdin != nil {
		c.SetStdin(j.stdin)
	}
	c.SetStdout(&stdout)
	if j.stdout != nil {
		c.SetStdout(j.stdout)
	}
	c.SetStderr(&stderr)
	err := c.Run()
	return outcome{total: int64(stdout.Len())}, err
}

func bitfieldScript(j *job) (outcome, error) {
	var stderr bytes.Buffer
	p := script.NewPipe()
	if j.stdin != nil {
		p = p.WithReader(j.stdin)
	}
	p = p.WithStderr(&stderr).ExecCommand(j.argv[0], j.argv[1:]...)
	if j.stdout != nil {
		_, err := p.WithStdout(j.stdout).Stdout()
		return outcome{}, err
	}
	text, err := p.String()
	return outcome{total: int64(len(text))}, err
}

// shHandler runs the command as the only one of a shell script, which is parsed each time.
func shHandler(j *job) (outcome, error) {
	ctx, cancel := context.WithTimeout(j.context(), runTimeout)
	defer cancel()
	words := make([]string, len(j.argv))
	for i, arg := range j.argv {
		quoted, err := syntax.Quote(arg, syntax.LangBash)
		if err != nil {
			return outcome{}, err
		}
		words[i] = quoted
	}
	script, err := syntax.NewParser().Parse(strings.NewReader(strings.Join(words, " ")), "")
	if err != nil {
		return outcome{}, err
	}
	var stdout, stderr bytes.Buffer
	streams := interp.StdIO(j.stdin, &stdout, &stderr)
	if j.stdout != nil {
		streams = interp.StdIO(j.stdin, j.stdout, &stderr)
	}
	runner, err := interp.New(streams)
	if err != nil {
		return outcome{}, err
	}
	err = runner.Run(ctx, script)
	return outcome{total: int64(stdout.Len())}, err
}
