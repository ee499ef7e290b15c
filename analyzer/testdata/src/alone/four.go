package alone

import (
	"context"
	"os/exec"
	"strings"

	_ "golang.org/x/sys/unix" // for its init
)

func four(ctx context.Context) error {
	cmd := command()
	cmd.Stdin = strings.NewReader("")
	return cmd.Run() // want `without a bound`
}

func command() *exec.Cmd { return exec.Command("true") }
