package reexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// The stages. The first starts the second and exits, so that the copy is no child of the program.
const (
	stageFirst = "first"
	stageCopy  = "copy"
)

// The copy's descriptors. A first stage has one more, behind the files: what it writes down its child in.
const (
	socketFD = 3
	firstFD  = 4 // of the files
)

var errPrivileges = errors.New("a program that gains privileges when it is executed cannot have a copy of itself")

// Start starts a copy and waits until its first stage has ended. It returns this process's end of the socket, on which
// the copy is heard. After an error a copy that comes late is dismissed.
func Start(ctx context.Context, variable, name string, files ...*os.File) (*os.File, error) {
	if sys.Privileges() { // the copy would have them too, and not take itself for one, see Became
		return nil, errPrivileges
	}
	self, err := procfs.ReadStatNoComm(os.Getpid())
	if err != nil {
		return nil, err
	}
	child, err := sys.Memfd(name)
	if err != nil {
		return nil, err
	}
	defer child.Close()
	ours, theirs, err := sys.SocketPair()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Dir = []string{name}, "/"
	cmd.Env = append(environ(variable),
		fmt.Sprintf("%s=%s:%d:%d:%d", variable, stageFirst, os.Getpid(), self.StartTime, len(files)))
	cmd.ExtraFiles = slices.Concat([]*os.File{theirs}, files, []*os.File{child})
	cmd.SysProcAttr, _ = sys.NewSession(nil)
	err = cmd.Run()
	theirs.Close()
	if sys.Adopts() {
		adopt(child)
	}
	if err != nil && !errors.Is(err, syscall.ECHILD) { // the program ignores SIGCHLD: the socket tells the rest
		Dismiss(ours)
		return nil, err
	}
	return ours, nil
}

// environ is our environment without what makes a copy.
func environ(variable string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, variable+"=") })
}

// Became returns what this process is the copy of, nil if the variable has not made it one. In a first stage it does
// not return. Setting the variable and opening descriptors does not make a privileged program take itself for a copy:
// the socket has to belong to the process that is named, and to this user.
//
// A copy ignores the signals that ask a process to end.
func Became(variable, name string) *Copy {
	text, set := os.LookupEnv(variable)
	if !set {
		return nil
	}
	_ = os.Unsetenv(variable) // for what the program starts
	stage, c, n, ok := parse(text)
	if !ok || sys.Privileges() || !sys.IsPairOf(socketFD, c.PID) {
		return nil
	}
	deafen()
	if sys.MarkRange(socketFD, -1) != nil {
		if found := fdtable.Seal(); found.Err != nil {
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
	}
	c.Socket = os.NewFile(socketFD, "socket")
	for i := range n {
		c.Files = append(c.Files, os.NewFile(uintptr(firstFD+i), name))
	}
	if stage == stageFirst {
		child := os.NewFile(uintptr(firstFD+n), name)
		if err := Insist(func() error { return c.again(variable, name, text, child) }); err != nil {
			os.Exit(1) //nolint:forbidigo // a program of its own
		}
		os.Exit(0) //nolint:forbidigo // a program of its own
	}
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // for ps(1), and not for killall(1) of the program
	return &c
}

// deafen has this process not hear what asks a process to end, and its children hear it: what is caught is not caught
// after execve(2), and what is ignored would be ignored.
func deafen() {
	caught := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGALRM,
		syscall.SIGUSR1, syscall.SIGUSR2,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(caught, sig)
		}
	}
}

// again starts the second stage, with nothing else open in it, and writes down which process it is.
func (c *Copy) again(variable, name, text string, child *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{name}, &os.ProcAttr{
		Dir:   "/",
		Env:   append(environ(variable), variable+"="+stageCopy+strings.TrimPrefix(text, stageFirst)),
		Files: append([]*os.File{null, null, null, c.Socket}, c.Files...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	if st, err := procfs.ReadStatNoComm(p.Pid); err == nil { // its number is ours to keep until we exit
		_, _ = fmt.Fprintf(child, "%d %d", p.Pid, st.StartTime) // or it stays a zombie
	}
	return nil
}

// parse reads the variable: STAGE:PID:START:FILES.
func parse(text string) (stage string, c Copy, files int, ok bool) {
	fields := strings.Split(text, ":")
	if len(fields) != 4 || fields[0] != stageFirst && fields[0] != stageCopy {
		return "", Copy{}, 0, false
	}
	var errs [3]error
	c.PID, errs[0] = strconv.Atoi(fields[1])
	c.Start, errs[1] = strconv.ParseUint(fields[2], 10, 64)
	files, errs[2] = strconv.Atoi(fields[3])
	return fields[0], c, files, errors.Join(errs[:]...) == nil && c.PID > 0 && 0 <= files && files <= maxFiles
}

const maxFiles = 8
