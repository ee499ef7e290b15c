package group_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// bound is far more than any test needs.
const bound = time.Minute

func newGroup(t *testing.T, opts ...group.Option) *group.Group {
	t.Helper()
	g, err := group.New(t.Context(), opts...)
	require.NoError(t, err)
	return g
}

// fetch asks a station and prints its answer. It reads as a program without a timeout does.
const fetch = `use Socket;
my $s; socket($s, PF_INET, SOCK_STREAM, 0) && connect($s, sockaddr_in($ARGV[0], INADDR_LOOPBACK)) or die $!;
send($s, "$ARGV[1]\n", 0); recv($s, my $answer, 100, 0); print $answer;`

// stations answers with what it is asked, but for one that stays silent until the end of the test. It
// returns the port and, once that one was asked, the address that asked.
func stations(t *testing.T, silent string) (port string, asker <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	over, asked, served := make(chan struct{}), make(chan string, 9), make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 100)
			n, _ := conn.Read(buf)
			if name := strings.TrimSpace(string(buf[:n])); name != silent {
				_, _ = conn.Write(buf[:n])
				conn.Close()
				continue
			}
			asked <- conn.RemoteAddr().String()
			go func() { <-over; conn.Close() }()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		close(over)
		<-served
	})
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port, asked
}

// Of many stations one is silent: it costs its own result and no other.
func TestSilentStation(t *testing.T) {
	perl := testproc.HasProgram(t, "perl")
	n := 40
	if testproc.Soaking() {
		n = 210
	}
	silent := fmt.Sprint("station ", n*2/3)
	port, asker := stations(t, silent)
	g := newGroup(t, group.Limit(16), group.StartInterval(time.Millisecond),
		group.Options(safeexec.WithTimeout(bound)))
	var jobs []*group.Job
	for i := range n {
		name := fmt.Sprint("station ", i)
		timeout := safeexec.WithTimeout(bound)
		if name == silent {
			timeout = safeexec.WithTimeout(2 * time.Second)
		}
		jobs = append(jobs, g.GoKey(name, exec.Command(perl, "-e", fetch, port, name), timeout))
	}
	answers := 0
	for job := range group.Results(jobs...) {
		res, err := job.Wait()
		if job.Key() != silent {
			if err != nil { // as in TestManyJobs
				require.ErrorIs(t, err, safeexec.ErrTreeUnseen)
			}
			assert.Equal(t, job.Key(), res.Stdout.String())
			answers++
			continue
		}
		// On a busy machine it may have had no time to ask, or the report none to look.
		var asked string
		for d := 4 * time.Second; ; d *= 2 {
			for len(asker) > 0 {
				asked = <-asker
			}
			require.ErrorIs(t, err, safeexec.ErrTimeout)
			blocked := regexp.MustCompile(`is blocked in recvfrom\(\d+ → tcp ` + asked + ` → 127\.0\.0\.1:` + port + ` ESTABLISHED`)
			if asked != "" && res.Report != nil && blocked.MatchString(res.Report.Verdict) {
				t.Log(res.Report.Verdict)
				break
			}
			require.Less(t, d, bound, "%v", res.Report)
			asked = ""
			res, err = g.GoKey(silent, exec.Command(perl, "-e", fetch, port, silent), safeexec.WithTimeout(d)).Wait()
		}
	}
	assert.Equal(t, n-1, answers)
	require.NoError(t, g.Shutdown(t.Context()))
}

// All trees are signaled at once: sixteen graces are one.
func TestShutdownOfDeafTrees(t *testing.T) {
	const n, grace = 16, time.Second
	g := newGroup(t, group.Limit(n), group.Options(
		safeexec.WithTimeout(bound), safeexec.WithGracePeriod(grace), safeexec.WithKillTimeout(bound)))
	canary := testproc.NewCanary(t)
	var jobs []*group.Job
	for range n {
		cmd := testproc.Command("ignore", "TERM")
		cmd.ExtraFiles = []*os.File{canary.File()}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		jobs = append(jobs, g.Go(cmd))
		testproc.Ready(t, out)
	}
	for _, j := range jobs { // each start is over, and needs the file no more
		testproc.Wait(t, func() bool { return j.PID() != 0 })
	}
	canary.CloseParent()
	waits := g.Go(exec.Command("true"))
	limit := g.StopBound()
	assert.Equal(t, safeexec.StopBound(safeexec.WithGracePeriod(grace), safeexec.WithKillTimeout(bound)), limit)
	begun := time.Now()
	require.NoError(t, g.Shutdown(context.Background()), "one ladder is within %v, and not sixteen", limit)
	took := time.Since(begun)
	t.Logf("shutdown took %v, %v more than the grace period", took, took-grace)
	assert.GreaterOrEqual(t, took, grace)
	canary.WaitGone(t)
	for _, j := range jobs {
		res, err := j.Wait()
		require.ErrorIs(t, err, safeexec.ErrCanceled)
		require.ErrorIs(t, err, group.ErrShutdown)
		assert.Equal(t, syscall.SIGKILL, res.Signal)
	}
	_, err := waits.Wait()
	require.ErrorIs(t, err, group.ErrNotStarted)
	require.ErrorIs(t, err, group.ErrShutdown)
}

// Many jobs leave nothing.
func TestManyJobs(t *testing.T) {
	testproc.NoLeaks(t)
	n := 300
	if testproc.Soaking() {
		n = 10000
	}
	threads := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		require.NoError(t, err)
		return len(tasks)
	}
	g := newGroup(t, group.Limit(64), group.Options(safeexec.WithTimeout(bound), safeexec.WithDrainTimeout(bound)))
	before := threads()
	var jobs []*group.Job
	for range n {
		jobs = append(jobs, g.Go(exec.Command("true")))
	}
	for job := range group.Results(jobs...) {
		res, err := job.Wait()
		if err != nil { // a look at the tree has a bound, which a busy machine may exceed
			require.ErrorIs(t, err, safeexec.ErrTreeUnseen)
		}
		assert.Zero(t, res.ExitCode)
		assert.LessOrEqual(t, len(g.Running()), 64)
	}
	t.Logf("%d jobs, threads: %d before, %d after", n, before, threads())
	if testproc.Soaking() { // the runtime keeps the threads that it once had, which is no matter of the number of jobs
		assert.Less(t, threads(), before+n/10)
	}
	require.NoError(t, g.Shutdown(t.Context()))
}

// The pipe of a command that was never started ends.
func TestPipeOfRefusedJob(t *testing.T) {
	g := newGroup(t)
	require.NoError(t, g.Shutdown(t.Context()))
	cmd := exec.Command("true")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = g.Go(cmd).Wait()
	require.ErrorIs(t, err, group.ErrShutdown)
	_, err = out.Read(make([]byte, 1))
	require.Error(t, err)
}

// A start that fails tells as much by a group as by Run.
func TestFailedStart(t *testing.T) {
	g := newGroup(t, group.Options(safeexec.WithTimeout(bound)))
	res, err := g.Go(exec.Command("/no/such/program")).Wait()
	require.ErrorIs(t, err, safeexec.ErrNotFound)
	require.NotErrorIs(t, err, group.ErrNotStarted)
	assert.Equal(t, 127, res.ShellCode())
	assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
	require.NoError(t, g.Shutdown(t.Context()))
}
