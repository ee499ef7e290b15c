package sys

import "golang.org/x/sys/unix"

const fionread = unix.TIOCINQ // the same number under its older name, ioctl_tty(2)
