package nth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/syscalls"
)

// kind names a call so that all of one name can fail in the same ways: by what it is done to. It reports
// false for those of the Go runtime.
func (s *supervisor) kind(n *notification) (string, bool) {
	name := syscalls.Native().Describe(int(n.number))
	first := int(int32(n.args[0]))
	switch name {
	case "clone":
		if n.args[0]&unix.CLONE_THREAD != 0 {
			return "", false
		}
	case "epoll_wait", "epoll_pwait", "epoll_ctl":
		if s.runtime[first] {
			return "", false
		}
	case "read", "write", "pread64", "ioctl", "fcntl", "lseek", "getdents64", "fstat":
		if s.runtime[first] {
			return "", false
		}
		name += " " + s.file(first)
		switch n.number {
		case unix.SYS_FCNTL, unix.SYS_IOCTL:
			name += " " + request(name, n.args[1])
		}
	case "openat", "openat2", "newfstatat", "statx", "readlinkat", "faccessat", "faccessat2":
		path := s.text(n.args[1])
		if !filepath.IsAbs(path) {
			path = s.link(first) + "/" + path
		}
		name += " " + place(path)
	case "readlink", "open", "stat", "lstat", "access":
		name += " " + place(s.text(n.args[0]))
	case "prctl":
		name += fmt.Sprintf(" %d", n.args[0])
	}
	return name, true
}

// request names the requests that a run makes; see fcntl(2), ioctl(2).
func request(call string, number uint64) string {
	if strings.HasPrefix(call, "fcntl") {
		switch number {
		case unix.F_DUPFD_CLOEXEC:
			return "F_DUPFD_CLOEXEC"
		case unix.F_GETFD:
			return "F_GETFD"
		case unix.F_OFD_GETLK:
			return "F_OFD_GETLK"
		case unix.F_SETFD:
			return "F_SETFD"
		case unix.F_GETFL:
			return "F_GETFL"
		case unix.F_SETFL:
			return "F_SETFL"
		case unix.F_GETPIPE_SZ:
			return "F_GETPIPE_SZ"
		case unix.F_SETPIPE_SZ:
			return "F_SETPIPE_SZ"
		}
	} else {
		switch number {
		case unix.TIOCINQ:
			return "FIONREAD"
		case unix.TCGETS:
			return "TCGETS"
		}
	}
	return fmt.Sprintf("%#x", number)
}

func (s *supervisor) link(fd int) string {
	if fd == unix.AT_FDCWD {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.host))
		return target
	}
	target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.host, fd))
	return target
}

// file says what a descriptor of the host's is.
func (s *supervisor) file(fd int) string {
	target := s.link(fd)
	if strings.HasPrefix(target, "/") {
		return place(target)
	}
	target = strings.TrimPrefix(target, "anon_inode:")
	target, _, _ = strings.Cut(target, ":[")
	return strings.Trim(target, "[]")
}

func place(path string) string {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return dir
		}
	}
	return "file"
}

// text reads a string of the host's.
func (s *supervisor) text(address uint64) string {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", s.host))
	if err != nil {
		return ""
	}
	defer memory.Close()
	b := make([]byte, 256)
	n, _ := memory.ReadAt(b, int64(address))
	text, _, _ := strings.Cut(string(b[:n]), "\x00")
	return text
}

// noFault says why a call is left alone.
var noFault = map[string]string{
	"close": "the kernel frees the descriptor whatever it returns",
}

// errnos are the ways to fail of each call that the man pages name and that can happen to a run, by the longest
// prefix of its kind. A sandbox may refuse any call.
var errnos = map[string][]unix.Errno{
	"":                        {unix.EPERM, unix.ENOSYS},
	"openat":                  {unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EINTR},
	"openat2":                 {unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EAGAIN, unix.ENOSYS},
	"openat2 file":            {unix.EMFILE, unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EAGAIN, unix.ENOSYS, unix.EIO},
	"newfstatat":              {unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EIO},
	"statx":                   {unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.ENOSYS, unix.EPERM},
	"fstat":                   {unix.ENOMEM, unix.EIO},
	"readlinkat":              {unix.ENOMEM, unix.EACCES, unix.ENOENT},
	"readlink":                {unix.ENOMEM, unix.EACCES, unix.ENOENT},
	"faccessat":               {unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EIO},
	"faccessat2":              {unix.ENOMEM, unix.EACCES, unix.ENOENT, unix.EIO, unix.ENOSYS, unix.EPERM},
	"read":                    {unix.EIO, unix.EINTR},
	"read /proc":              {unix.ESRCH, unix.ENOMEM, unix.EIO, unix.EINTR},
	"read pipe":               {unix.EINTR},
	"read eventfd":            {unix.EAGAIN, unix.EINTR},
	"pread64":                 {unix.EIO, unix.EINTR},
	"pread64 /proc":           {unix.ESRCH, unix.ENOMEM, unix.EIO, unix.EINTR},
	"write pipe":              {unix.EAGAIN, unix.EINTR},
	"write eventfd":           {unix.EAGAIN, unix.EINTR},
	"lseek":                   {unix.EINVAL},
	"getdents64":              {unix.ENOMEM, unix.ENOENT, unix.EIO, unix.EINTR},
	"pidfd_open":              {unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ESRCH, unix.EINVAL, unix.ENOSYS, unix.EPERM},
	"pidfd_send_signal":       {unix.ESRCH, unix.EPERM, unix.EINVAL, unix.ENOSYS},
	"kill":                    {unix.ESRCH, unix.EPERM},
	"waitid":                  {unix.EINTR, unix.ECHILD, unix.EINVAL},
	"wait4":                   {unix.EINTR, unix.ECHILD},
	"clone":                   {unix.EAGAIN, unix.ENOMEM, unix.EPERM},
	"clone3":                  {unix.EAGAIN, unix.ENOMEM, unix.ENOSYS, unix.EPERM},
	"pipe2":                   {unix.EMFILE, unix.ENFILE},
	"epoll_create1":           {unix.EMFILE, unix.ENFILE, unix.ENOMEM},
	"eventfd2":                {unix.EMFILE, unix.ENFILE, unix.ENOMEM},
	"epoll_ctl":               {unix.ENOMEM, unix.ENOSPC},
	"epoll_wait":              {unix.EINTR},
	"epoll_pwait":             {unix.EINTR},
	"epoll_pwait2":            {unix.EINTR, unix.ENOSYS, unix.EPERM},
	"ppoll":                   {unix.EINTR, unix.ENOMEM},
	"poll":                    {unix.EINTR, unix.ENOMEM},
	"fcntl":                   {unix.EPERM, unix.EINVAL},
	"fcntl pipe F_SETPIPE_SZ": {unix.EPERM, unix.EBUSY, unix.ENOMEM},
	"prlimit64":               {unix.EPERM, unix.ESRCH, unix.ENOSYS},
	"prctl":                   {unix.EINVAL, unix.EPERM, unix.ENOSYS},
	"getsid":                  {unix.ESRCH, unix.EPERM},
	"getpgid":                 {unix.ESRCH, unix.EPERM},
	"close_range":             {unix.ENOMEM, unix.EMFILE, unix.EINVAL, unix.ENOSYS, unix.EPERM},
	"socket":                  {unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EAFNOSUPPORT},
	"process_vm_readv":        {unix.EPERM, unix.ESRCH, unix.ENOMEM, unix.ENOSYS},
	"fadvise64":               {unix.EINVAL, unix.ESPIPE},
	"statfs":                  {unix.ENOMEM, unix.EACCES, unix.EIO, unix.EINTR},
	"fstatfs":                 {unix.ENOMEM, unix.EIO, unix.EINTR},
	"getrlimit":               {unix.EPERM},
	"dup3":                    {unix.EMFILE, unix.EINTR, unix.EBUSY},
}

func errnosOf(call string) []unix.Errno {
	if noFault[call] != "" {
		return nil
	}
	for {
		if list, ok := errnos[call]; ok {
			return list
		}
		call = call[:max(strings.LastIndexByte(call, ' '), 0)]
	}
}
