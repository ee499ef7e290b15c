package commands

import (
	"context"
	"os/exec"
)

func contexts(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Run()                         // want `\(\*exec.Cmd\).Run leaves .* without a bound; use safeexec.Run`
	_ = cmd.Run()                     // want `without a bound`
	if err := cmd.Run(); err != nil { // want `without a bound`
		return err
	}
	err := cmd.Run() // want `without a bound`
	if err == nil {
		err = exec.Command("git", "gc").Run() // want `without a bound`
	}
	out, err := exec.CommandContext(ctx, "git", "log").Output() // want `Output leaves .* without a bound`
	if err != nil || len(out) == 0 {
		return cmd.Run() // want `without a bound`
	}
	both, err := cmd.CombinedOutput() // want `CombinedOutput leaves .* without a bound`
	_ = both
	switch {
	case err != nil:
		return cmd.Run() // want `without a bound`
	}
	return cmd.Run() // want `without a bound`
}

func named(parent context.Context, cmd exec.Cmd) (err error) {
	defer cmd.Run() // want `without a bound`
	func(inner context.Context) {
		err = cmd.Run() // want `without a bound`
	}(parent)
	return cmd.Run() // want `without a bound`
}

// What follows needs more than another statement, or has no context.

type job struct{ *exec.Cmd }

func without(cmd *exec.Cmd) error {
	return cmd.Run() // want `without a bound`
}

func more(ctx context.Context, cmd *exec.Cmd, j job) (int, error) {
	run := cmd.Run // want `without a bound`
	_ = run
	_ = j.Run()         // want `without a bound`
	_ = cmd.Start()     // want `\(\*exec.Cmd\).Start leaves .* without a bound; use safeexec.Start`
	_ = cmd.Wait()      // its Start was reported
	var err = cmd.Run() // want `without a bound`
	_ = err
	return 0, cmd.Run() // want `without a bound`
}

func shadowed(ctx context.Context, cmd *exec.Cmd) {
	safeexec := 1
	_ = safeexec
	_ = cmd.Run() // want `without a bound`
	{
		ctx := 1
		_ = ctx
		_ = cmd.Run() // want `without a bound`
	}
}

func later(cmd *exec.Cmd) error {
	err := cmd.Run() // want `without a bound`
	ctx := context.Background()
	_ = ctx
	return err
}

func other(ctx context.Context, cmd *exec.Cmd) int {
	err := 1
	f := func() error {
		return cmd.Run() // want `without a bound`
	}
	_ = f
	return err
}

func taken(ctx context.Context, cmd *exec.Cmd) error {
	const err = 1
	return cmd.Run() // want `without a bound`
}
