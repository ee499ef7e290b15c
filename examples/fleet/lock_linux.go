package main

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile opens a file that no other process has. The lock is that of the open file: processes that inherit it have
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
