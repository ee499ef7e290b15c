package testproc

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
)

// An Option changes what [Main] does.
type Option func(*config)

// config is what the options of Main add up to.
type config struct {
	uses []string // helpers that a full run must start
	warm []func() // called before the state at the start is recorded
}

// Uses declares helpers that the package's tests start. A full run (no -run, -skip or -short) in
// which one of them was never built by [Command] fails, so that a helper whose last test went away
// is noticed. Do not declare a helper whose only test may skip.
func Uses(names ...string) Option {
	return func(c *config) { c.uses = append(c.uses, names...) }
}

// Warm has f called before the state at the start is recorded. f opens what the package keeps for
// the life of the process, which is thereby no leak.
func Warm(f func()) Option {
	return func(c *config) { c.warm = append(c.warm, f) }
}

// Idle has f called before what is left is counted. f closes what the package keeps for reuse.
func Idle(f func()) Option {
	return func(*config) { closeIdle = append(closeIdle, f) }
}

// Main is the body of TestMain, and does not return. In a process that [Command] or [RoleCommand] started
// it runs the helper or the role and never the tests. Otherwise it runs the tests; if they pass it checks that no
// goroutine, child or descriptor is left that was not there at the start and that the helpers
// declared by [Uses] were started. What is wrong is listed on standard error and makes the status 1.
//
// Children that are left, after failed tests too, are killed: they hold the output of "go test".
func Main(m interface{ Run() int }, opts ...Option) {
	performRole()
	if name, ok := os.LookupEnv(Selector); ok {
		runHelper(name)
	}
	if len(os.Args) > 1 && helpers[os.Args[1]] != nil {
		// A test that replaced the environment would otherwise run all tests, itself among them.
		fmt.Fprintf(os.Stderr, "testproc: helper %q without %s in its environment\n",
			os.Args[1], Selector)
		os.Exit(125)
	}
	os.Exit(runTests(m, opts))
}

func runTests(m interface{ Run() int }, opts []Option) int {
	heedSignals()
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	if !flag.Parsed() {
		flag.Parse()
	}
	worker := flagValue("test.fuzzworker") == "true" || flagValue("test.list") != ""
	dismiss := func() {}
	if !worker {
		dismiss = employJanitor()
	}
	warmPoller()
	for _, f := range c.warm {
		f()
	}
	base := record()
	code := m.Run()
	runAtEnd()
	if worker {
		return code
	}
	if code == 0 {
		problems := base.settle()
		if fullRun() {
			for _, name := range unused(c.uses) {
				problems = append(problems, fmt.Sprintf("helper %q is declared but no test starts it", name))
			}
		}
		for _, p := range problems {
			fmt.Fprintln(os.Stderr, "testproc: "+p)
			code = 1
		}
	}
	base.killChildren()
	if code == 0 {
		dismiss() // or it ends what the tests that failed have left
	}
	return code
}

var ending struct {
	sync.Mutex
	steps []func()
}

// atEnd has f called once all tests are over.
func atEnd(f func()) {
	ending.Lock()
	defer ending.Unlock()
	ending.steps = append(ending.steps, f)
}

func runAtEnd() {
	ending.Lock()
	defer ending.Unlock()
	for _, f := range ending.steps {
		f()
	}
	ending.steps = nil
}

// warmPoller makes the runtime open the descriptors of its network poller.
func warmPoller() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	r.Close()
	w.Close()
}

// fullRun reports whether every test was asked for. It needs the flags parsed.
func fullRun() bool {
	for _, name := range []string{"test.run", "test.skip", "test.fuzz"} {
		if flagValue(name) != "" {
			return false
		}
	}
	return !testing.Short()
}

func flagValue(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

// unused returns the names, sorted, that Command was never called with.
func unused(names []string) []string {
	started.Lock()
	defer started.Unlock()
	var list []string
	for _, name := range names {
		if !started.names[name] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Helpers returns the names of all helpers of this platform, sorted.
func Helpers() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(helpers)), func(name string) bool {
		return name[0] == '_'
	})
}
