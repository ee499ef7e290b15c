package syscalls

import "syscall"

const getpidNumber = syscall.SYS_GETPID
