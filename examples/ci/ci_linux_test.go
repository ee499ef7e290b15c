package main

import (
	"bytes"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/examples/ci/steps"
	"github.com/seed841d8200/safeexec/guard"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asCI makes this test binary the program.
const asCI = "SAFEEXEC_TEST_CI"

func TestMain(m *testing.M) {
	guard.Init() // this binary is executed once more as the guard
	if os.Getenv(asCI) != "" {
		os.Unsetenv(asCI)
		main()
	}
	testproc.Main(m)
}

// A program is ci with a file of its own.
type program struct {
	*exec.Cmd
	dir string
}

// newProgram returns ci for a file with this text.
func newProgram(t *testing.T, text string, args ...string) program {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ci.yml"), []byte(text), 0o600))
	return programIn(t, dir, args...)
}

// programIn returns ci for the file in a directory.
func programIn(t *testing.T, dir string, args ...string) program {
	t.Helper()
	args = append([]string{"-file", filepath.Join(dir, "ci.yml"), "-out", filepath.Join(dir, "out")}, args...)
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCI+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return program{cmd, dir}
}

// run returns what the program printed, and its exit code.
func (p program) run(t *testing.T) (string, int) {
	t.Helper()
	out, err := p.Output()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), p.ProcessState.ExitCode()
}

func (p program) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	require.NoError(t, err)
	return string(text)
}

// A node is any element of XML.
type node struct {
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []node     `xml:",any"`
	XMLName  xml.Name
}

func (n node) attr(name string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// junit returns the report's suite, and each case by its name.
func (p program) junit(t *testing.T) (suite node, cases map[string]node) {
	t.Helper()
	require.NoError(t, xml.Unmarshal([]byte(p.read(t, "out/junit.xml")), &suite))
	require.Equal(t, "testsuite", suite.XMLName.Local)
	cases = map[string]node{}
	for _, c := range suite.Children {
		require.Equal(t, "testcase", c.XMLName.Local)
		cases[c.attr("name")] = c
	}
	require.Equal(t, strconv.Itoa(len(cases)), suite.attr("tests"))
	return suite, cases
}

// problem returns the name, the message and the text of what a case has.
func (n node) problem() (kind, message, text string) {
	if len(n.Children) == 0 {
		return "", "", ""
	}
	return n.Children[0].XMLName.Local, n.Children[0].attr("message"), n.Children[0].Text
}

const graph = `
steps:
  - name: last # what it needs is below it
    needs: [first, flaky]
    run: cat order; echo last >>order
  - name: first
    run: |
      echo first >>order
      echo one; echo two >&2; printf 'three\033'
    env: {WORD: "a b"}
  - name: flaky
    needs: [first]
    run: |
      echo flaky >>order
      test $(grep -c flaky order) = 3
    retry: 5
    pause: 1ms
  - name: broken
    run: |
      echo "$WORD] in $(basename "$PWD"), CI=$CI"
      false
      echo not reached
    env: {WORD: "]]>& a|b"}
    dir: sub
    retry: 1
  - name: stuck
    run: exec sleep 600
    timeout: 100ms
  - name: skipped
    needs: [broken, first]
    run: touch ran
  - name: too
    needs: [skipped]
    run: touch ran
`

func TestGraph(t *testing.T) {
	p := newProgram(t, graph, "-limit", "2")
	require.NoError(t, os.Mkdir(filepath.Join(p.dir, "sub"), 0o700))
	out, code := p.run(t)
	assert.Equal(t, exitFailed, code)
	assert.Equal(t, "first\nflaky\nflaky\nflaky\nlast\n", p.read(t, "order"))
	assert.NoFileExists(t, filepath.Join(p.dir, "ran"))

	for _, line := range []string{
		"first   | one\n", "first   | two\n", "first   | three\x1b\n",
		"flaky   * try 2 failed: exit status 1\n",
		"last    | flaky\n",
		"broken  | ]]>& a|b] in sub, CI=true\n",
		"broken  * try 1 failed: exit status 1\n",
		"skipped * skipped: needs broken\n", "too     * skipped: needs skipped\n",
	} {
		assert.Contains(t, out, line)
	}
	assert.Equal(t, "one\ntwo\nthree\x1b", p.read(t, "out/first.log"))
	assert.Equal(t, strings.Repeat("]]>& a|b] in sub, CI=true\n", 2), p.read(t, "out/broken.log"))
	assert.NoFileExists(t, filepath.Join(p.dir, "out/skipped.log"))

	suite, cases := p.junit(t)
	assert.Equal(t, "2", suite.attr("failures"))
	assert.Equal(t, "2", suite.attr("skipped"))
	for name, want := range map[string][3]string{
		"last":    {"", "^$", "^$"},
		"first":   {"", "^$", "^$"},
		"flaky":   {"", "^$", "^$"},
		"broken":  {"failure", "^exit status 1$", `^\]\]>& a\|b\] in sub, CI=true$`},
		"stuck":   {"failure", "timed out", "^$"},
		"skipped": {"skipped", "^needs broken$", "^$"},
		"too":     {"skipped", "^needs skipped$", "^$"},
	} {
		kind, message, text := cases[name].problem()
		assert.Equal(t, want[0], kind, name)
		assert.Regexp(t, want[1], message, name)
		assert.Regexp(t, want[2], text, name)
	}

	summary := p.read(t, "out/summary.md")
	for _, row := range []string{
		`(?m)^3 of 7 steps passed$`,
		`(?m)^\| flaky \| passed \| 3 \| \S+ \|  \|$`,
		`(?m)^\| broken \| failed \| 2 \| \S+ \| exit status 1 \|$`,
		`(?m)^\| stuck \| failed \| [01] \| \S+ \| .*timed out.* \|$`,
		`(?m)^\| skipped \| skipped \| 0 \| 0s \| needs broken \|$`,
	} {
		assert.Regexp(t, row, summary)
	}
}

// Not more than the limit run at a time, and as many as that do: each of them waits for the other.
func TestLimit(t *testing.T) {
	var text strings.Builder
	text.WriteString("steps:\n")
	for _, name := range []string{"a", "b", "c", "d"} {
		text.WriteString("- name: " + name + "\n  run: |\n" +
			"    touch " + name + ".runs; test $(ls *.runs | wc -l) -le 2 || exit 3\n" +
			"    touch " + name + ".was; until test $(ls *.was | wc -l) -ge 2; do sleep 0.01; done\n" +
			"    rm " + name + ".runs\n")
	}
	p := newProgram(t, text.String(), "-limit", "2")
	_, code := p.run(t)
	assert.Equal(t, exitPassed, code, p.read(t, "out/summary.md"))
}

// stubborn is two steps that run for ever, of which either may be the first. Each prints the PIDs of its shell and of a
// child in a session of its own, which both ignore SIGTERM.
const stubborn = `
steps:
  - name: one
    run: &run |
      trap 'echo got TERM' TERM
      setsid sh -c 'trap "" TERM; sleep 600; :' &
      echo pids $$ $!
      while :; do sleep 0.1 || :; done
  - name: two
    run: *run
  - name: needs
    needs: [one, two]
    run: touch ran
`

// start starts the program, and returns its lines from the one with the PIDs on, and those.
func start(t *testing.T, p program) (lines *testproc.PTY, pids []int) {
	t.Helper()
	lines = testproc.NewPTY(t)
	p.Stdin, p.Stdout = nil, lines.Slave()
	require.NoError(t, p.Start())
	lines.CloseSlave()
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	lines.WaitScreen(t, "| pids ")
	for _, word := range strings.Fields(lines.ReadLine(t)) {
		pid, err := strconv.Atoi(word)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 2)
	return lines, pids
}

func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		testproc.Wait(t, func() bool { return testproc.Dead(pid) })
	}
}

func TestCtrlC(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	p := newProgram(t, stubborn, "-limit", "1", "-grace", "100ms")
	_, pids := start(t, p)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	_ = p.Wait()
	assert.Equal(t, exitSignal, p.ProcessState.ExitCode())
	for _, pid := range pids {
		assert.True(t, testproc.Dead(pid))
	}
	assert.NoFileExists(t, filepath.Join(p.dir, "ran"))
	suite, cases := p.junit(t)
	assert.Equal(t, "3", suite.attr("skipped"))
	ran := 0
	for _, name := range []string{"one", "two"} {
		kind, message, text := cases[name].problem()
		assert.Equal(t, "skipped", kind)
		assert.Contains(t, message, "canceled")
		ran += strings.Count(text, "pids")
	}
	assert.Equal(t, 1, ran)
	summary := p.read(t, "out/summary.md")
	assert.Contains(t, summary, "0 of 3 steps passed")
	assert.Regexp(t, `(?m)^\| needs \| canceled \| 0 \| 0s \| needs (one|two) \|$`, summary)
}

// More of Ctrl-C ends what a grace period of an hour would leave, be it by the second or, where that
// counts as one with the first, by the third, which ends ci alone and leaves the rest to its guard.
func TestCtrlCAgain(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	p := newProgram(t, stubborn, "-limit", "1", "-grace", "1h")
	lines, pids := start(t, p)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	lines.WaitScreen(t, "| got TERM")
	ended := make(chan struct{})
	go func() { _ = p.Wait(); close(ended) }()
	for again := time.NewTicker(time.Second); ; {
		select {
		case <-again.C:
			_ = p.Process.Signal(os.Interrupt)
			continue
		case <-ended:
			again.Stop()
		}
		break
	}
	gone(t, pids)
}

// The guard ends the steps of a ci that was killed.
func TestKilled(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	p := newProgram(t, stubborn, "-limit", "1", "-grace", "100ms")
	_, pids := start(t, p)
	require.NoError(t, p.Process.Signal(syscall.SIGKILL))
	gone(t, pids)
}

func TestTerminal(t *testing.T) {
	p := newProgram(t, `
steps:
  - {name: a, run: echo hi}
  - {name: b, run: "until test -e go; do sleep 0.01; done"}
`, "-limit", "2") // not as many as there are CPUs: either may come first
	screen := testproc.NewPTY(t)
	p.Stdout = screen.Slave()
	require.NoError(t, p.Start())
	screen.CloseSlave()
	screen.WaitScreen(t, "(0/2)")
	screen.WaitScreen(t, "a | hi\r\n")
	screen.WaitScreen(t, "a * passed after ")
	screen.WaitScreen(t, "(1/2)")
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "go"), nil, 0o600))
	screen.WaitScreen(t, "b * passed after ")
	require.NoError(t, p.Wait())
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, text, says string
		kind             error
	}{
		{"empty", "", "", steps.ErrNoSteps},
		{"none", "steps: []", "", steps.ErrNoSteps},
		{"null", "steps: [null]", "step 1", steps.ErrField},
		{"no name", "steps: [{run: x}]", "step 1", steps.ErrField},
		{"a path", "steps: [{name: ../x, run: x}]", "step 1", steps.ErrField},
		{"no command", "steps: [{name: a, run: ' '}]", "run is empty", steps.ErrField},
		{"negative", "steps: [{name: a, run: x, retry: -1}]", "step a", steps.ErrField},
		{"twice", "steps: [{name: a, run: x}, {name: a, run: y}]", "step a", steps.ErrTwice},
		{"unknown need", "steps: [{name: a, run: x, needs: [b]}]", `"b"`, steps.ErrUnknown},
		{"itself", "steps: [{name: a, run: x, needs: [a]}]", "a needs a", steps.ErrCycle},
		{
			"cycle", "steps: [{name: a, run: x, needs: [b]}, {name: b, run: x, needs: [c]}, {name: c, run: x, needs: [b]}]",
			"b needs c needs b", steps.ErrCycle,
		},
		{"unknown field", "steps: [{name: a, run: x, need: [b]}]", "field need not found", nil},
		{"no duration", "steps: [{name: a, run: x, timeout: soon}]", "soon", nil},
		{"not YAML", "{", "yaml", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProgram(t, c.text)
			_, err := steps.Load(filepath.Join(p.dir, "ci.yml"))
			require.Error(t, err)
			if c.kind != nil {
				assert.ErrorIs(t, err, c.kind)
			}
			assert.ErrorContains(t, err, c.says)
		})
	}
	p := newProgram(t, "steps: [{name: a, run: x, needs: [a]}]")
	var said bytes.Buffer
	p.Stderr = &said
	out, code := p.run(t)
	assert.Equal(t, exitRefused, code)
	assert.Empty(t, out)
	assert.Contains(t, said.String(), "a needs a")
	assert.NoDirExists(t, filepath.Join(p.dir, "out"), "nothing was begun")
}

// A log has an end.
func TestLogLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := createLog(path)
	require.NoError(t, err)
	log.left = 4
	for range 3 {
		n, err := log.Write([]byte("abc"))
		assert.Equal(t, 3, n)
		assert.NoError(t, err)
	}
	require.NoError(t, log.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "abca\n[5 bytes more are not here]\n", string(text))
}

// A real build, of a module that needs others from the module proxy.
func TestBuild(t *testing.T) {
	testproc.HasProgram(t, "go")
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/hello")))
	p := programIn(t, dir)
	env := append(os.Environ(), "GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOWORK=off")
	p.Env = append(p.Env, env[len(env)-3:]...)
	out, code := p.run(t)
	if code != exitPassed && strings.Contains(out, "download * failed") {
		plain := exec.CommandContext(testproc.WholeDeadline(t), "go", "mod", "download")
		plain.Dir, plain.Env = dir, env
		if text, err := plain.CombinedOutput(); err != nil {
			t.Skipf("the module proxy does not answer: %v: %s", err, text)
		}
	}
	require.Equal(t, exitPassed, code, out)
	assert.Contains(t, out, "run      | Don't communicate by sharing memory")
	assert.FileExists(t, filepath.Join(dir, "hello"))
	_, cases := p.junit(t)
	assert.Len(t, cases, 4)
}
