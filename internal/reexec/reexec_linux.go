package reexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// The stages. The first starts the second and exits, so that the copy is no child of the program.
const (
	stageFirst = "first"
	stageCopy  = "copy"
)

// The copy's descriptors.
const (
	socketFD = 3
	firstFD  = 4 // of the files
)

// Start starts a copy and waits until its first stage has ended. It returns this process's end of the socket, on which
// the copy is heard, or closes it.
func Start(ctx context.Context, variable, name string, files ...*os.File) (*os.File, error) {
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Dir = []string{name}, "/"
	cmd.Env = append(environ(variable), fmt.Sprintf("%s=%s:%d:%d", variable, stageFirst, os.Getpid(), len(files)))
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	cmd.SysProcAttr, _ = sys.NewSession(nil)
	err = cmd.Run()
	theirs.Close()
	if err != nil && !errors.Is(err, syscall.ECHILD) { // the program ignores SIGCHLD: the socket tells the rest
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// environ is our environment without what makes a copy.
func environ(variable string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, variable+"=") })
}

// Became reports whether this process is a copy that the variable has made, and then returns its end of the socket and
// its files. In a first stage it does not return. Nobody who sets the variable and opens descriptors has a privileged
// program take itself for a copy: the socket has to be one of the process that is named, and of this user.
func Became(variable, name string) (socket *os.File, files []*os.File, ok bool) {
	text, set := os.LookupEnv(variable)
	if !set {
		return nil, nil, false
	}
	_ = os.Unsetenv(variable) // for what the program starts
	stage, pid, n, ok := parse(text)
	if !ok || sys.Privileges() || !sys.IsPairOf(socketFD, pid) {
		return nil, nil, false
	}
	if sys.MarkRange(socketFD, -1) != nil {
		if found := fdtable.Seal(); found.Err != nil {
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
	}
	socket = os.NewFile(socketFD, "socket")
	for i := range n {
		files = append(files, os.NewFile(uintptr(firstFD+i), name))
	}
	if stage == stageFirst {
		if err := again(variable, name, text, socket, files); err != nil {
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
		os.Exit(0) //nolint:forbidigo // a program of its own
	}
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // for ps(1), and not for killall(1) of the program
	return socket, files, true
}

// again starts the second stage, with nothing else open in it.
func again(variable, name, text string, socket *os.File, files []*os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = os.StartProcess("/proc/self/exe", []string{name}, &os.ProcAttr{
		Dir:   "/",
		Env:   append(environ(variable), variable+"="+stageCopy+strings.TrimPrefix(text, stageFirst)),
		Files: append([]*os.File{null, null, null, socket}, files...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// parse reads the variable: STAGE:PID:FILES.
func parse(text string) (stage string, pid, files int, ok bool) {
	fields := strings.Split(text, ":")
	if len(fields) != 3 || fields[0] != stageFirst && fields[0] != stageCopy {
		return "", 0, 0, false
	}
	pid, err := strconv.Atoi(fields[1])
	files, e := strconv.Atoi(fields[2])
	return fields[0], pid, files, err == nil && e == nil && pid > 0 && 0 <= files && files <= maxFiles
}

const maxFiles = 8
