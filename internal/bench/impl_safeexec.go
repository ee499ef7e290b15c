package main

import (
	"errors"
	"os/exec"

	"github.com/seed841d8200/safeexec"
)

// viaSafeexec runs with opts on top of a timeout, everything else at its default.
func viaSafeexec(opts ...safeexec.Option) func(*job) (outcome, error) {
	return func(j *job) (outcome, error) {
		res, err := safeexec.Run(j.context(), j.command(), j.options(opts)...)
		if j.linger > 0 && errors.Is(err, safeexec.ErrPipeHeld) {
			err = nil
		}
		return outcome{total: res.Stdout.Total, times: res.Times}, err
	}
}

func (j *job) command() *exec.Cmd {
	cmd := exec.Command(j.argv[0], j.argv[1:]...)
	cmd.Stdin = j.stdin
	cmd.Stdout = j.stdout
	return cmd
}

// options adds to opts, which runs share, what the job asks for.
func (j *job) options(opts []safeexec.Option) []safeexec.Option {
	own := append([]safeexec.Option{safeexec.WithTimeout(runTimeout)}, opts...)
	if j.keep > 0 {
		own = append(own, safeexec.WithOutputLimit(int64(j.keep)))
	}
	if j.linger > 0 {
		own = append(own, safeexec.WithLinger(j.linger))
	}
	return own
}
