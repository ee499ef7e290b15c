//go:build linux

// Init is the first process of a small machine whose only purpose is to run test binaries on another kernel:
// .ci/kernels boots it. It mounts what the tests need, runs each line of /tests, and powers off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is not the first process")
		os.Exit(1)
	}
	mounts := []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
		{"devpts", "/dev/pts", "devpts"}, {"tmpfs", "/tmp", "tmpfs"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2"},
	}
	for _, m := range mounts {
		_ = os.MkdirAll(m.target, 0o755)
		report("mount "+m.target, syscall.Mount(m.source, m.target, m.kind, 0, ""))
	}
	for _, l := range []struct{ to, name string }{
		{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	} {
		_ = os.Symlink(l.to, l.name)
	}
	report("chmod /tmp", os.Chmod("/tmp", 0o1777))
	report("bring lo up", loopback())
	for _, module := range lines("/modules/order") {
		file := "/modules/" + module + ".ko"
		if _, err := os.Stat(file); err != nil {
			continue // compiled in
		}
		if out, err := exec.Command("/bin/busybox", "insmod", file).CombinedOutput(); err != nil {
			fmt.Printf("init: without %s: %v: %s\n", module, err, out)
		}
	}
	runAll(lines("/tests"))
	syscall.Sync()
	report("power off", syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF))
}

func report(what string, err error) {
	if err != nil {
		fmt.Printf("init: %s: %v\n", what, err)
	}
}

// lines returns the lines of a file.
func lines(name string) []string {
	text, err := os.ReadFile(name)
	report(name, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// runAll runs tests: a directory, a program and its arguments.
func runAll(tests []string) {
	for _, test := range tests {
		words := strings.Fields(test)
		if len(words) < 2 {
			continue
		}
		fmt.Printf("\n== %s\n", test)
		cmd := exec.Command(words[1], words[2:]...)
		cmd.Dir = words[0]
		cmd.Env = append([]string{
			"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/tmp", "TMPDIR=/tmp", "USER=root", "TERM=dumb", "LC_ALL=C",
		}, lines("/environ")...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		begun := time.Now()
		err := cmd.Run()
		reap()
		fmt.Printf("\n== ended %s: %s, %d s\n", words[1], verdict(err), int(time.Since(begun).Seconds()))
	}
}

func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// reap takes what the tests have orphaned and that has died.
func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// loopback brings the loopback interface up, netdevice(7).
func loopback() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(s) }()
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
