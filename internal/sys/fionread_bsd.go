//go:build darwin || freebsd || openbsd || netbsd

package sys

const fionread = 0x4004667f // FIONREAD: _IOR('f', 127, int) on all of them
