package job

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// hostVariable makes the test binary a program that uses a store, see [host].
const hostVariable = "SAFEEXEC_TEST_JOB_HOST"

func TestMain(m *testing.M) {
	Init()
	if dir := os.Getenv(hostVariable); dir != "" {
		host(dir)
		os.Exit(0)
	}
	if addr := os.Getenv(serverVariable); addr != "" {
		fmt.Println(serve(addr))
		os.Exit(1)
	}
	testproc.Main(m, testproc.Idle(poll.CloseIdle), testproc.Warm(func() {
		proctree.DevNull()
		_, _ = census(proctree.Trace{Environ: "nobody"})
		_, _ = safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(time.Minute))
	}))
}

// host is a program that starts jobs, one for each command line on its standard input, and says so.
func host(dir string) {
	os.Unsetenv(hostVariable)
	if os.Getenv(unstoppedVariable) != "" {
		if err := testproc.RefuseSyscall(syscall.SYS_PTRACE, syscall.EPERM); err != nil {
			fmt.Println("error", err)
			return
		}
	}
	s, err := Open(dir)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	if os.Getenv(reuseVariable) != "" {
		reuse(s)
		return
	}
	in := bufio.NewScanner(os.Stdin)
	fmt.Println("open")
	if os.Getenv(stormVariable) != "" {
		storm(s)
	}
	for in.Scan() {
		name, script, _ := strings.Cut(in.Text(), " ")
		if name == "stop" {
			j, err := s.Find(script)
			if err == nil {
				_, err = j.Stop(context.Background())
			}
			fmt.Println("stopped", script, err)
			continue
		}
		opts := []Option{Name(name), Timeout(time.Minute), Log(MaxSize(logGrain), Keep(2)), PIDFile(os.Getenv(pidFileVariable))}
		if os.Getenv(heldVariable) != "" {
			opts = append(opts, KeepStatus())
		}
		j, err := s.Start(context.Background(), exec.Command("sh", "-c", script), opts...)
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println("started", j.Name())
	}
}

// A program is a host in a process of its own.
type program struct {
	cmd *exec.Cmd
	in  *os.File
	out *bufio.Reader
}

func startHost(t *testing.T, dir string, env ...string) *program {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	p := &program{cmd: exec.Command(exe)}
	p.cmd.Env = append(append(os.Environ(), hostVariable+"="+dir, "GORACE=atexit_sleep_ms=0"), env...)
	r, in, err := os.Pipe()
	require.NoError(t, err)
	out, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = r, w, os.Stderr
	require.NoError(t, p.cmd.Start())
	r.Close()
	w.Close()
	p.in, p.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		p.kill()
		in.Close()
		out.Close()
	})
	require.Equal(t, "open", p.line(t))
	return p
}

func (p *program) line(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(testproc.ReadLine(t, p.out))
}

func (p *program) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// open opens a store, whose jobs are ended with the test.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		jobs, err := s.List()
		assert.NoError(t, err)
		for _, j := range jobs {
			if st, err := j.Status(); err == nil && (st.State == Running || st.State == Half) {
				_, err := j.Kill(ctx)
				for err != nil && ctx.Err() == nil { // on a machine that is very busy, it takes more than its time
					_, err = j.Kill(ctx)
				}
				assert.NoError(t, err)
			}
		}
		s.Close()
	})
	return s
}

func sh(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func deadline(t *testing.T) context.Context { return testproc.Deadline(t) }

func status(t *testing.T, j *Job) Status {
	t.Helper()
	st, err := j.Status()
	require.NoError(t, err)
	return st
}

// adoptOne takes over the only job of a store.
func adoptOne(t *testing.T, s *Store) Adoption {
	t.Helper()
	found, err := s.Adopt(deadline(t))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, found[0].Err)
	return found[0]
}

func texts(lines []Line) (list []string) {
	for _, l := range lines {
		list = append(list, l.Text)
	}
	return list
}

// firstLine waits for the first line of the log.
func firstLine(t *testing.T, j *Job) Line {
	t.Helper()
	for line, err := range j.Follow(deadline(t)) {
		require.NoError(t, err)
		return line
	}
	require.Fail(t, "the job ended without a line")
	return Line{}
}

func TestStartAndEnd(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("echo out; echo err >&2; exit 3"), Name("a"), Endless())
	require.NoError(t, err)
	st, err := j.Wait(deadline(t))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, exit.ExitCode())
	assert.Equal(t, Ended, st.State)
	assert.Equal(t, &Exit{Code: 3}, st.Exit)
	assert.Equal(t, ByItself, st.Reason)
	lines, err := j.Tail(10)
	require.NoError(t, err)
	assert.Equal(t, []string{"out", "err"}, texts(lines))
}

func TestRefused(t *testing.T) {
	s := open(t, t.TempDir())
	tests := []struct {
		name string
		cmd  *exec.Cmd
		opts []Option
		want error
	}{
		{"no timeout", sh("true"), nil, safeexec.ErrNoTimeout},
		{"a name with a slash", sh("true"), []Option{Endless(), Name("a/b")}, new(safeexec.ConfigError)},
		{"a pipe", func() *exec.Cmd { c := sh("true"); c.Stdout = new(strings.Builder); return c }(),
			[]Option{Endless()}, new(safeexec.ConfigError)},
		{"a context", exec.CommandContext(t.Context(), "true"), []Option{Endless()}, new(safeexec.ConfigError)},
		{"a small log", sh("true"), []Option{Endless(), Log(MaxSize(1))}, new(safeexec.ConfigError)},
		{"a watchdog without messages", sh("true"), []Option{Endless(), Watchdog(time.Second)}, new(safeexec.ConfigError)},
		{"no program", exec.Command("/nowhere/program"), []Option{Endless(), Name("b")}, os.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j, err := s.Start(deadline(t), tt.cmd, tt.opts...)
			assert.Nil(t, j)
			if _, config := tt.want.(*safeexec.ConfigError); config { //nolint:errorlint // the very type
				var ce *safeexec.ConfigError
				assert.ErrorAs(t, err, &ce)
			} else {
				assert.ErrorIs(t, err, tt.want)
			}
		})
	}
	jobs, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, jobs, "a start that failed leaves no record")
}

func TestStopEndsTheTree(t *testing.T) {
	s := open(t, t.TempDir())
	// One that leaves the session, loses its parent and its environment; and one that ignores
	// SIGTERM.
	j, err := s.Start(deadline(t), sh(`
		(setsid env -i sh -c 'echo $$; exec sleep 1000' & )
		(trap "" TERM; sleep 1001 & while :; do sleep 1; done) &
		echo up; exec sleep 1002`), Name("a"), Endless(), Grace(50*time.Millisecond),
		Ready(time.Minute, LogLine(regexp.MustCompile("^up$"))))
	require.NoError(t, err)
	assert.Equal(t, Running, status(t, j).State)
	var escapee int
	testproc.Wait(t, func() bool {
		lines, err := j.Tail(2)
		require.NoError(t, err)
		for _, line := range lines {
			if line.Text != "up" {
				escapee, err = strconv.Atoi(line.Text)
				require.NoError(t, err)
			}
		}
		return escapee != 0
	})
	did, err := j.Stop(deadline(t))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(did.Killed), 3) // its commands may not have come that far
	assert.True(t, slices.ContainsFunc(did.Killed, func(p safeexec.ProcessInfo) bool { return p.PID == escapee }))
	for _, p := range did.Killed {
		assert.False(t, testproc.Lives(p.PID, p.StartTicks), p.Name)
	}
	st := status(t, j)
	assert.Equal(t, Ended, st.State)
	assert.Equal(t, ByStop, st.Reason)
	require.NotNil(t, st.Exit)
	assert.Contains(t, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}, st.Exit.Signal, "it may have had no time to die of the first")
}

func TestNameIsTakenWhileItRuns(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	_, err := s.Start(deadline(t), exec.Command("sleep", "1000"), Name("a"), Endless())
	require.NoError(t, err)
	_, err = other.Start(deadline(t), exec.Command("sleep", "1001"), Name("a"), Endless())
	require.ErrorIs(t, err, ErrRunning)
	j, err := other.Find("a")
	require.NoError(t, err)
	assert.True(t, status(t, j).Kept)
	_, err = j.Stop(deadline(t))
	require.NoError(t, err)
	_, err = other.Find("b")
	assert.ErrorIs(t, err, ErrNoJob)
}

func TestTimeout(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), exec.Command("sleep", "1000"), Name("a"), Timeout(50*time.Millisecond))
	require.NoError(t, err)
	st, _ := j.Wait(deadline(t))
	assert.Equal(t, ByTimeout, st.Reason)
	assert.Equal(t, Ended, st.State)
}

// TestFoundAgain has the program that started the job killed.
func TestFoundAgain(t *testing.T) {
	dir := t.TempDir()
	first := startHost(t, dir)
	fmt.Fprintln(first.in, "web echo up; sleep 1000; echo never")
	require.Equal(t, "started web", first.line(t))
	first.kill()

	s := open(t, dir)
	found := adoptOne(t, s)
	assert.Equal(t, Running, found.Status.State)
	assert.True(t, found.Status.First)
	assert.True(t, found.Status.Kept)
	j := found.Job
	assert.Equal(t, "up", firstLine(t, j).Text)
	did, err := j.Stop(deadline(t))
	require.NoError(t, err)
	assert.NotEmpty(t, did.Killed)
	assert.Equal(t, Ended, status(t, j).State)
	names, err := s.Clean(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, []string{"web"}, names)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "the locks")
}

// TestOverdue has the timeout pass while no program is there.
func TestOverdue(t *testing.T) {
	dir := t.TempDir()
	first := startHost(t, dir)
	fmt.Fprintln(first.in, "web exec sleep 1000")
	require.Equal(t, "started web", first.line(t))
	first.kill()
	r, err := read(filepath.Join(dir, "web"))
	require.NoError(t, err)
	r.Deadline = 1
	require.NoError(t, r.write(filepath.Join(dir, "web")))
	s := open(t, dir)
	found := adoptOne(t, s)
	assert.True(t, found.Ended)
	assert.Equal(t, ByTimeout, found.Status.Reason)
	assert.False(t, testproc.Lives(r.Trace.PID, r.Trace.Start))
}

// TestOverdueIsToldOnce has the timeout pass meanwhile, too: the one who takes over asks once.
func TestOverdueIsToldOnce(t *testing.T) {
	dir := t.TempDir()
	first := startHost(t, dir)
	// A child has the shell's trap on the way to its exec, and would lose the signal there.
	fmt.Fprintln(first.in, `a trap "echo term" TERM; sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done; echo up; wait; wait; sleep 0.3`)
	require.Equal(t, "started a", first.line(t))
	first.kill()
	s := open(t, dir)
	j, err := s.Find("a")
	require.NoError(t, err)
	require.Equal(t, "up", firstLine(t, j).Text)
	r, err := read(j.dir())
	require.NoError(t, err)
	r.Deadline, r.Settings.Grace = 1, time.Minute
	require.NoError(t, r.write(j.dir()))
	found := adoptOne(t, s)
	assert.True(t, found.Ended)
	assert.Equal(t, ByTimeout, found.Status.Reason)
	lines, err := j.Tail(10)
	require.NoError(t, err)
	assert.Equal(t, []string{"up", "term"}, texts(lines))
}

// TestOldRecord gives a record a number that belongs to somebody else, in each way that it can.
func TestOldRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	j, err := s.Start(deadline(t), exec.Command("true"), Name("a"), Endless())
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	stranger := testproc.NewBystander(t, "stranger")
	st, err := procfs.ReadStat(stranger.PID())
	require.NoError(t, err)
	soft, _, err := procfs.ReadLimit(stranger.PID(), procfs.LimitRTTime)
	require.NoError(t, err)
	old, err := read(j.dir())
	require.NoError(t, err)
	old.Phase, old.Trace.PID = phaseStarted, stranger.PID()
	tests := []struct {
		name   string
		change func(*record)
		want   State
	}{
		{"its start time", func(*record) {}, Gone},
		{"another boot", func(r *record) { r.Boot, r.Trace.Start, r.Trace.Limit = "other", st.StartTime, soft }, Gone},
		{"another PID namespace", func(r *record) { r.Namespace, r.Trace.Start = "pid:[1]", st.StartTime }, Elsewhere},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := *old
			tt.change(&r)
			require.NoError(t, r.write(j.dir()))
			assert.Equal(t, tt.want, status(t, j).State)
			did, err := j.Stop(deadline(t))
			if tt.want == Elsewhere {
				require.ErrorIs(t, err, ErrElsewhere)
			} else {
				require.NoError(t, err)
			}
			assert.Empty(t, did.Killed)
			r.Run++
			require.NoError(t, r.write(j.dir()))
			require.Error(t, j.Signal(syscall.SIGKILL))
		})
	}
	stranger.Untouched(t)
}
