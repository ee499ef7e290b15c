package testproc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// helpers holds every helper by name; the files of the platforms add theirs. A name that begins with
// an underscore is a part of another helper. A helper gets its arguments and returns its status.
var helpers = map[string]func(args []string) int{
	"exit":              func(args []string) int { return number(args, 0) },
	"hang":              func([]string) int { ready(); return hang() },
	"spew":              func(args []string) int { return spew(int64(number(args, 0)), args[1:]) },
	"spew-forever":      func(args []string) int { return spew(-1, args) },
	"echo-stdin":        echoStdin,
	"slow":              slow,
	"args":              printArgs,
	"env":               printEnv,
	"cwd":               printCwd,
	"stderr":            func(args []string) int { fmt.Fprint(os.Stderr, strings.Join(args, " ")); return 0 },
	"close-stdout-hang": closeStdoutHang,
}

// runHelper runs the helper and ends the process.
func runHelper(name string) {
	os.Unsetenv(Selector)
	life := 10 * time.Minute
	if s := os.Getenv(lifeTime); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			fail("%v", err)
		}
		life = d
	}
	watchdog(life)
	f := helpers[name]
	if f == nil {
		fail("no helper %q", name)
	}
	// Whoever selected the helper by the variable alone has not given its name.
	args := os.Args[1:]
	if len(args) > 0 && args[0] == name {
		args = args[1:]
	}
	os.Exit(f(args))
}

// fail ends the helper because of a mistake in the test that started it.
func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "testproc helper: "+format+"\n", args...)
	os.Exit(125)
}

// number returns argument i as a number.
func number(args []string, i int) int {
	if i >= len(args) {
		fail("a number is missing")
	}
	n, err := strconv.Atoi(args[i])
	if err != nil {
		fail("%v", err)
	}
	return n
}

// ready says that the handlers stand and the children given are ready themselves.
func ready(children ...int) {
	line := fmt.Sprint("ready ", os.Getpid())
	for _, pid := range children {
		line += fmt.Sprint(" ", pid)
	}
	out := os.Stdout
	if s, ok := os.LookupEnv(readyFD); ok {
		os.Unsetenv(readyFD)
		fd, err := strconv.Atoi(s)
		if err != nil {
			fail("%v", err)
		}
		out = os.NewFile(uintptr(fd), "ready")
		defer out.Close()
	}
	fmt.Fprintln(out, line)
}

// hang sleeps until the watchdog ends the process. An empty select would be reported as a deadlock.
func hang() int {
	for {
		time.Sleep(time.Hour)
	}
}

// spew writes n bytes of the pattern, or bytes without end if n is negative, to the descriptor that
// args names.
func spew(n int64, args []string) int {
	out := os.Stdout
	if len(args) > 0 {
		out = os.NewFile(uintptr(number(args, 0)), "spew")
	}
	buf := make([]byte, 64<<10)
	for off := int64(0); n < 0 || off < n; {
		p := buf
		if n >= 0 && n-off < int64(len(p)) {
			p = p[:n-off]
		}
		FillPattern(p, off)
		k, err := out.Write(p)
		off += int64(k)
		if err != nil {
			fmt.Fprintln(os.Stderr, "spew:", err)
			return 1
		}
	}
	return 0
}

func echoStdin([]string) int {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "echo-stdin:", err)
		return 1
	}
	return 0
}

func slow(args []string) int {
	n := number(args, 0)
	in := bufio.NewReader(os.Stdin)
	for i := 1; i <= n; i++ {
		if len(args) > 1 {
			pause, err := time.ParseDuration(args[1])
			if err != nil {
				fail("%v", err)
			}
			time.Sleep(pause)
		} else if _, err := in.ReadString('\n'); err != nil {
			return 3
		}
		fmt.Println("line", i)
	}
	return 0
}

func printArgs(args []string) int {
	for _, arg := range args {
		fmt.Printf("%q\n", arg)
	}
	return 0
}

func printEnv(args []string) int {
	if len(args) != 1 {
		fail("env needs one name")
	}
	value, ok := os.LookupEnv(args[0])
	if !ok {
		return 1
	}
	fmt.Println(value)
	return 0
}

func printCwd([]string) int {
	fmt.Println(os.Getenv("PWD"))
	os.Unsetenv("PWD") // Getwd believes it if it can
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cwd:", err)
		return 1
	}
	fmt.Println(dir)
	return 0
}

func closeStdoutHang([]string) int {
	ready()
	os.Stdout.Close()
	os.Stderr.Close()
	return hang()
}
