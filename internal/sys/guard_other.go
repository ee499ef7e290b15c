//go:build !linux

package sys

import (
	"errors"
	"os"
)

// Package guard is for Linux alone.

func Memfd(string) (*os.File, error)          { return nil, errors.ErrUnsupported }
func SocketPair() (*os.File, *os.File, error) { return nil, nil, errors.ErrUnsupported }
