//go:build !linux

package main

import (
	"errors"
	"os"
)

// lockFile is refused: the guard, which ends what a killed worker leaves, is for Linux.
func lockFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
