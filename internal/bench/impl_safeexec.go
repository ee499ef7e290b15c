package main

import (
	"errors"
	"os/exec"

	"github.com/seed841d8200/safeexec"
)

// viaSafeexec runs with opts on top of a timeout, everything else at its default.
func viaSafeexec(opts ...safeexec.Option) func(*job) (outcome, error) {
	return func(j *job) (outcome, error) {
		// A slice of its own: runs share opts.
		own := append([]safeexec.Option{safeexec.WithTimeout(runTimeout)}, opts...)
		if j.keep > 0 {
			own = append(own, safeexec.WithOutputLimit(int64(j.keep)))
		}
		if j.linger > 0 {
			own = append(own, safeexec.WithLinger(j.linger))
		}
		cmd := exec.Command(j.argv[0], j.argv[1:]...)
		cmd.Stdin = j.stdin
		cmd.Stdout = j.stdout
		res, err := safeexec.Run(j.context(), cmd, own...)
		if j.linger > 0 && errors.Is(err, safeexec.ErrPipeHeld) {
			err = nil
		}
		return outcome{total: res.Stdout.Total, times: res.Times}, err
	}
}
