package commands

import (
	"context"
	"os/exec"
)

func contexts(ctx context.Context, cmd *exec.Cmd) error {
	cmd.Run()                         // want `\(\*exec.Cmd\).Run has no bound; use safeexec.Run`
	_ = cmd.Run()                     // want `has no bound`
	if err := cmd.Run(); err != nil { // want `has no bound`
		return err
	}
	err := cmd.Run() // want `has no bound`
	if err == nil {
		err = exec.Command("git", "gc").Run() // want `has no bound`
	}
	out, err := exec.CommandContext(ctx, "git", "log").Output() // want `Output has no bound`
	if err != nil || len(out) == 0 {
		return cmd.Run() // want `has no bound`
	}
	both, err := cmd.CombinedOutput() // want `CombinedOutput has no bound`
	_ = both
	switch {
	case err != nil:
		return cmd.Run() // want `has no bound`
	}
	return cmd.Run() // want `has no bound`
}

func named(parent context.Context, cmd exec.Cmd) (err error) {
	defer cmd.Run() // want `has no bound`
	func(inner context.Context) {
		err = cmd.Run() // want `has no bound`
	}(parent)
	return cmd.Run() // want `has no bound`
}

// What follows needs more than another statement, or has no context.

type job struct{ *exec.Cmd }

func without(cmd *exec.Cmd) error {
	return cmd.Run() // want `has no bound`
}

func more(ctx context.Context, cmd *exec.Cmd, j job) (int, error) {
	run := cmd.Run // want `has no bound`
	_ = run
	_ = j.Run()         // want `has no bound`
	_ = cmd.Start()     // want `\(\*exec.Cmd\).Start has no bound; use safeexec.Start`
	_ = cmd.Wait()      // its Start was reported
	var err = cmd.Run() // want `has no bound`
	_ = err
	return 0, cmd.Run() // want `has no bound`
}

func shadowed(ctx context.Context, cmd *exec.Cmd) {
	safeexec := 1
	_ = safeexec
	_ = cmd.Run() // want `has no bound`
	{
		ctx := 1
		_ = ctx
		_ = cmd.Run() // want `has no bound`
	}
}

func later(cmd *exec.Cmd) error {
	err := cmd.Run() // want `has no bound`
	ctx := context.Background()
	_ = ctx
	return err
}

func other(ctx context.Context, cmd *exec.Cmd) int {
	err := 1
	f := func() error {
		return cmd.Run() // want `has no bound`
	}
	_ = f
	return err
}

func taken(ctx context.Context, cmd *exec.Cmd) error {
	const err = 1
	return cmd.Run() // want `has no bound`
}
