// Package nth has each system call of a run fail, one at a time, and looks at what becomes of the run, of its
// processes and of the host.
package nth

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

var update = flag.Bool("update", false, "write what became of the runs to the table in docs/faults.md")

var sample = flag.Bool("sample", false, "have only the first and the last call of each kind fail, and in one way")

var tokens atomic.Int64

// perform has a host make a run of the scenario with the fault. The host is killed at the limit.
func perform(t *testing.T, name string, f fault) (record, *report, string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	token := fmt.Sprintf("%d-%d-", os.Getpid(), tokens.Add(1))
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(exe, token, strconv.Itoa(int(f.errno)))
	cmd.Env = append(os.Environ(), hostVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.WaitDelay = limit
	err = cmd.Start()
	theirs.Close()
	require.NoError(t, err)

	s := supervisor{host: cmd.Process.Pid, token: tokenVariable + "=" + token, fault: f, runtime: map[int]bool{}}
	over := make(chan struct{})
	go func() {
		defer close(over)
		if s.err = s.receive(int(ours.Fd())); s.err == nil {
			defer unix.Close(s.listener)
			s.serve()
		}
	}()
	late := atomic.Bool{}
	watch := time.AfterFunc(limit, func() {
		late.Store(true)
		cmd.Process.Signal(unix.SIGQUIT)
		time.AfterFunc(time.Second, func() { cmd.Process.Kill() })
	})
	err = cmd.Wait()
	watch.Stop()
	endBearers(t, s.token) // what is left would be supervised for ever
	<-over
	switch {
	case s.err != nil && s.listener == 0 && strings.Contains(stderr.String(), "seccomp"):
		t.Skip("this process may not supervise: " + stderr.String())
	case s.err != nil:
		t.Fatalf("supervisor: %v; %s", s.err, stderr.String())
	case late.Load():
		return s.record, nil, "hangs: " + stderr.String()
	case err != nil:
		return s.record, nil, fmt.Sprintf("dies: %v: %s", err, stderr.String())
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return s.record, nil, fmt.Sprintf("says %q", stdout.String())
	}
	return s.record, &r, ""
}

// receive takes the listener, and what the host says about its descriptors.
func (s *supervisor) receive(socket int) error {
	text, rights := make([]byte, 256), make([]byte, 64)
	n, rn, _, _, err := unix.Recvmsg(socket, text, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return err
	}
	if len(messages) != 1 {
		return fmt.Errorf("no listener came with %q", text[:n])
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	s.listener = fds[0]
	for _, word := range strings.Fields(string(text[:n])) {
		fd, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		s.runtime[fd] = true
	}
	return nil
}

// endBearers kills what bears the token. No other process does: it has the test's own PID in it.
func endBearers(t *testing.T, token string) {
	t.Helper()
	testproc.Wait(t, func() bool {
		list := bearers(token)
		for _, text := range list {
			var pid int
			fmt.Sscan(text, &pid)
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
				p.Release()
			}
		}
		return len(list) == 0
	})
}

// judge says what became of a run, and what of it must not be.
func judge(f fault, rec record, r *report, broken string) (outcome string, wrong []string) {
	if broken != "" {
		return "", []string{broken}
	}
	for _, who := range rec.strangers {
		wrong = append(wrong, "signaled a stranger: "+who)
	}
	said := func(kind string) bool { return slices.Contains(r.Is, kind) }
	if len(rec.survivors) > 0 && !said("ErrSurvivors") && !said("ErrTreeUnseen") {
		wrong = append(wrong, fmt.Sprintf("left %v without a word", rec.survivors))
	}
	for _, what := range r.Left {
		// A file that may be locked stays open until the next start has looked again.
		locked := f.call == "fcntl file F_OFD_GETLK" && strings.HasPrefix(what, "descriptor /")
		// What waits for a survivor ends with it.
		if !locked && (len(rec.survivors) == 0 || !said("ErrSurvivors")) {
			wrong = append(wrong, "left a "+what)
		}
	}
	if r.Zombie && f.errno != unix.ECHILD { // after which there is nobody to reap
		wrong = append(wrong, "left a zombie")
	}
	if r.Second != "" {
		wrong = append(wrong, "spoiled the next run: "+r.Second)
	}
	if r.Unlike != "" && r.Err == "" {
		wrong = append(wrong, "is silently unlike: "+r.Unlike)
	}
	switch {
	case r.Unlike == "" && !said("ErrTreeUnseen") && !said("ErrSurvivors"):
		outcome = "none"
	case r.HasErrno && !r.Started:
		outcome = "refused, with the errno"
	case r.HasErrno:
		outcome = "the errno"
	case len(r.Is) > 0:
		outcome = strings.Join(r.Is, ", ")
	default:
		outcome = "other: " + r.Err
	}
	return outcome, wrong
}

// TestNthCall has the calls of a run fail, each one in every way. It is a soak alone: there are thousands.
func TestNthCall(t *testing.T) {
	if !testproc.Soaking() && !*sample {
		t.Skip("a soak: set " + testproc.SoakVariable)
	}
	for _, program := range []string{"sh", "setsid", "sleep", "cat"} {
		testproc.HasProgram(t, program)
	}
	soak := !*sample
	var table results
	for _, name := range slices.Sorted(maps.Keys(scenarios)) {
		t.Run(name, func(t *testing.T) {
			rec, r, broken := perform(t, name, fault{})
			outcome, wrong := judge(fault{}, rec, r, broken)
			require.Empty(t, wrong)
			require.Equal(t, "none", outcome, "%+v", r)
			require.NotEmpty(t, rec.counts)
			t.Logf("without a fault: %v, %v", r.Elapsed, rec.counts)
			for _, call := range slices.Sorted(maps.Keys(rec.counts)) {
				ways := errnosOf(call)
				if !soak {
					ways = ways[:min(len(ways), 1)]
				}
				for _, errno := range ways {
					t.Run(call+"/"+unix.ErrnoName(errno), func(t *testing.T) {
						t.Parallel()
						row := result{scenario: name, call: call, errno: errno}
						for n := 1; ; n++ {
							if !soak && n == 2 {
								n = max(n, rec.counts[call])
							}
							f := fault{call, n, errno}
							rec, r, broken := perform(t, name, f)
							if !rec.fired {
								break
							}
							outcome, wrong := judge(f, rec, r, broken)
							for _, w := range wrong {
								t.Errorf("call %d: %s", n, w)
							}
							if r == nil || len(wrong) > 0 {
								t.Logf("call %d: %+v", n, r)
								continue
							}
							if outcome != "none" {
								t.Logf("call %d: %s: %v", n, outcome, r.Err)
							}
							row.add(outcome, r.Elapsed)
							if !soak && n > 1 {
								break
							}
						}
						t.Logf("%d cases, at most %v", row.cases, row.slowest)
						table.add(row)
					})
				}
			}
		})
	}
	t.Cleanup(func() {
		if *update && soak && !t.Failed() {
			table.write(t)
		}
	})
}

// TestWaitidIsNoExit has the waitid of a run fail in ways that do not say that the command has exited.
func TestWaitidIsNoExit(t *testing.T) {
	testproc.HasProgram(t, "cat")
	for _, errno := range []unix.Errno{unix.ECHILD, unix.EINVAL} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			for n, fired := 1, true; fired; n++ {
				f := fault{"waitid", n, errno}
				rec, r, broken := perform(t, "output", f)
				// Each call waits for the supervisor, and on a busy machine a look is cut short then. What the fault does,
				// it does each time.
				for again := 0; again < 10 && r != nil && r.cutShort(); again++ {
					rec, r, broken = perform(t, "output", f)
				}
				fired = rec.fired
				outcome, wrong := judge(f, rec, r, broken)
				require.Empty(t, wrong, "call %d", n)
				assert.NotContains(t, outcome, "Err", "call %d: %s", n, r.Err)
			}
		})
	}
}

// A result is a row of the table.
type result struct {
	scenario, call string
	errno          unix.Errno
	cases          int
	outcomes       map[string]int
	slowest        time.Duration
}

func (r *result) add(outcome string, elapsed time.Duration) {
	if r.outcomes == nil {
		r.outcomes = make(map[string]int)
	}
	r.cases++
	r.outcomes[outcome]++
	r.slowest = max(r.slowest, elapsed)
}

type results struct {
	sync.Mutex
	rows []result
}

func (t *results) add(r result) {
	t.Lock()
	defer t.Unlock()
	if r.cases > 0 {
		t.rows = append(t.rows, r)
	}
}

const (
	tablePath   = "../../docs/faults.md"
	tableHeader = "| run | call | error | cases | outcome |\n| --- | --- | --- | --- | --- |\n"
)

// write replaces the rows of the table that there are new ones for.
func (t *results) write(tb testing.TB) {
	text, err := os.ReadFile(tablePath)
	require.NoError(tb, err)
	head, body, found := strings.Cut(string(text), tableHeader)
	require.True(tb, found)
	body, tail, _ := strings.Cut(body, "\n\n")
	rows := make(map[string]string)
	put := func(line string) { rows[strings.Join(strings.Split(line, "|")[:4], "|")] = line }
	for line := range strings.Lines(body) {
		put(strings.TrimSuffix(line, "\n"))
	}
	for _, r := range t.rows {
		var outcomes []string
		for _, o := range slices.Sorted(maps.Keys(r.outcomes)) {
			outcomes = append(outcomes, fmt.Sprintf("%d × %s", r.outcomes[o], o))
		}
		put(fmt.Sprintf("| %s | %s | %s | %d | %s |", r.scenario, r.call, unix.ErrnoName(r.errno), r.cases,
			strings.Join(outcomes, "; ")))
	}
	out := head + tableHeader
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		out += rows[key] + "\n"
	}
	if tail != "" {
		out += "\n" + tail
	}
	require.NoError(tb, os.WriteFile(tablePath, []byte(out), 0o666))
}
