//go:build unix

package testproc

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func init() {
	helpers["ignore"] = ignore
	helpers["stop-self"] = stopSelf
	helpers["exit-by-signal"] = exitBySignal
	helpers["term-exit"] = termExit
	helpers["hear"] = hear
	helpers["hold-fd"] = holdFD
	helpers["fork"] = fork
	helpers["fork-term"] = forkTerm
	helpers["background"] = background
	helpers["daemonize"] = daemonize
	helpers["_daemonize-middle"] = daemonizeMiddle
	helpers["grandchild-term"] = grandchildTerm
	helpers["_grandchild"] = grandchild
}

// signals are those a test can name, without SIG.
var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "ABRT": syscall.SIGABRT,
	"KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1, "SEGV": syscall.SIGSEGV,
	"USR2": syscall.SIGUSR2, "PIPE": syscall.SIGPIPE, "ALRM": syscall.SIGALRM,
	"TERM": syscall.SIGTERM, "CONT": syscall.SIGCONT, "TSTP": syscall.SIGTSTP,
}

// signalNamed accepts a name with or without SIG.
func signalNamed(name string) syscall.Signal {
	sig, ok := signals[strings.TrimPrefix(name, "SIG")]
	if !ok {
		fail("no signal %q", name)
	}
	return sig
}

func ignore(args []string) int {
	for _, name := range args {
		signal.Ignore(signalNamed(name))
	}
	ready()
	return hang()
}

func stopSelf([]string) int {
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	ready()
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		fail("%v", err)
	}
	<-cont
	fmt.Println("continued")
	return hang()
}

func exitBySignal(args []string) int {
	if len(args) != 1 {
		fail("exit-by-signal needs one signal")
	}
	sig := signalNamed(args[0])
	syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	defaultAction(sig)
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		fail("%v", err)
	}
	return hang()
}

func termExit(args []string) int {
	status := number(args, 0)
	term := notifyTerm()
	ready()
	<-term
	fmt.Println("terminated")
	return status
}

// hear writes the number of each signal that it gets of those named.
func hear(args []string) int {
	heard := make(chan os.Signal, 64) // what it has no room for is dropped
	for _, name := range args {
		signal.Notify(heard, signalNamed(name))
	}
	ready()
	for sig := range heard {
		fmt.Println(int(sig.(syscall.Signal)))
	}
	return 0
}

// notifyTerm returns the channel that SIGTERM arrives on.
func notifyTerm() <-chan os.Signal {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	return term
}

func holdFD(args []string) int {
	keep := number(args, 0)
	if err := syscall.Fstat(keep, new(syscall.Stat_t)); err != nil {
		fail("descriptor %d: %v", keep, err)
	}
	all := inherited()
	ready()
	for _, fd := range all {
		if fd.n != keep {
			syscall.Close(fd.n)
		}
	}
	return hang()
}

func fork(args []string) int {
	var pids []int
	for range number(args, 0) {
		pids = append(pids, spawn(nil, "hang")[0])
	}
	ready(pids...)
	return hang()
}

func forkTerm(args []string) int {
	term := notifyTerm()
	ready()
	<-term
	var attr *syscall.SysProcAttr
	if len(args) > 0 && args[0] == "setsid" {
		attr = &syscall.SysProcAttr{Setsid: true}
	}
	fmt.Println("forked", spawn(attr, "fork-term", args...)[0])
	return 0
}

func background([]string) int {
	fmt.Println("start ok", spawn(nil, "hang")[0])
	return 0
}

// daemonize does what daemon(3) does, with programs in the place of forks: the one in the middle
// leads the new session and ends, so that the daemon has neither parent nor a session to lead.
func daemonize([]string) int {
	pids := spawn(&syscall.SysProcAttr{Setsid: true}, "_daemonize-middle")
	ready(pids[1])
	return 0
}

func daemonizeMiddle([]string) int {
	ready(spawn(nil, "hang")[0])
	return 0
}

func grandchildTerm([]string) int {
	term := notifyTerm()
	ready(spawn(nil, "_grandchild")[0])
	<-term
	return 0
}

func grandchild([]string) int {
	term := notifyTerm()
	ready()
	<-term
	fmt.Println("child got TERM")
	bufio.NewReader(os.Stdin).ReadString('\n')
	fmt.Println("child done")
	return 0
}

// spawn starts a helper below this one, waits until it is ready, and returns the numbers of its ready
// line. The child gets every descriptor that this process was born with. It is reaped when it ends.
func spawn(attr *syscall.SysProcAttr, name string, args ...string) []int {
	// ExtraFiles would displace descriptors that the test passed on, hence an inheritable pipe.
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		fail("%v", err)
	}
	syscall.CloseOnExec(p[0])
	cmd := Command(name, args...)
	cmd.Env = append(cmd.Env, fmt.Sprint(readyFD, "=", p[1]))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		fail("%v", err)
	}
	syscall.Close(p[1])
	r := os.NewFile(uintptr(p[0]), "ready")
	defer r.Close()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		fail("%s did not get ready: %v", name, err)
	}
	pids, err := parseReady(line)
	if err != nil {
		fail("%v", err)
	}
	go cmd.Wait() // ends with the child or with this process
	return pids
}
