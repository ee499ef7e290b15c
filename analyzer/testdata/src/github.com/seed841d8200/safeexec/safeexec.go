// Package safeexec has what the tests call of the real one. That fixed code compiles is tested with that one.
package safeexec

import (
	"context"
	"os/exec"
	"time"
)

type (
	Option  interface{ option() }
	Result  struct{}
	Process struct{}
	Killed  struct{}
)

func Run(ctx context.Context, cmd *exec.Cmd, opts ...Option) (Result, error)     { return Result{}, nil }
func Start(ctx context.Context, cmd *exec.Cmd, opts ...Option) (*Process, error) { return nil, nil }
func Output(ctx context.Context, cmd *exec.Cmd, opts ...Option) ([]byte, error)  { return nil, nil }

func WithTimeout(d time.Duration) Option     { return nil }
func WithIdleTimeout(d time.Duration) Option { return nil }

func (p *Process) Wait() (Result, error) { return Result{}, nil }
func (p *Process) Stop() (Result, error) { return Result{}, nil }
