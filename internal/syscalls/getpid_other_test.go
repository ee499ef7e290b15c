//go:build !linux

package syscalls

const getpidNumber = 0 // the test skips
