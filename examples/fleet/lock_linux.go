package main

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile opens a file that nobody else has. The lock is the open file's: processes that inherit the descriptor have
// it too, and it is free when the last of them is gone.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use: %w", path, err)
	}
	return f, nil
}
