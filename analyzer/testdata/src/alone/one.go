package alone

import "os/exec"

import "context"

func one(ctx context.Context) error {
	_, err := exec.Command("true").Output() // want `without a bound`
	return err
}
