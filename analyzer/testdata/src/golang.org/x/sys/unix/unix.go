package unix

import "syscall"

func Kill(pid int, sig syscall.Signal) error { return nil }
