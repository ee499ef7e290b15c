package alone

import (
	"context"
	"os/exec"

	bounded "github.com/seed841d8200/safeexec"
)

func two(ctx context.Context, cmd *exec.Cmd) error {
	if _, err := bounded.Run(ctx, cmd); err != nil {
		return err
	}
	return cmd.Run() // want `use safeexec.Run`
}
