//go:build !linux

package reexec

import (
	"context"
	"errors"
	"os"
)

// Start is for Linux alone.
func Start(context.Context, string, string, ...*os.File) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

// Became says that this process is no copy.
func Became(string, string) *Copy { return nil }
