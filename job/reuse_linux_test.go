package job

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// reuseVariable has a host, the first process of a PID namespace, give the number of a job that has
// ended to a stranger, that many times.
const reuseVariable = "SAFEEXEC_TEST_JOB_REUSE"

// reuse prints what went wrong.
func reuse(s *Store) {
	times, _ := strconv.Atoi(os.Getenv(reuseVariable))
	for range times {
		if err := reuseOnce(s.root); err != nil {
			fmt.Println("error", err)
			return
		}
	}
	fmt.Println("reused", times)
}

func reuseOnce(dir string) error {
	ctx := context.Background()
	s, err := Open(dir)
	if err != nil {
		return err
	}
	j, err := s.Start(ctx, exec.Command("sleep", "1000"), Name("a"), Timeout(time.Hour))
	if err != nil {
		return err
	}
	s.Close()
	r, err := read(j.dir())
	if err != nil {
		return err
	}
	p, err := os.FindProcess(r.Trace.PID)
	if err != nil {
		return err
	}
	_ = p.Kill()
	if _, err := p.Wait(); err != nil {
		return err
	}
	for ticks() <= r.Trace.Start+1 { // a start time has 10 ms
		time.Sleep(time.Millisecond)
	}
	stranger, err := stranger(r.Trace.PID)
	if err != nil {
		return err
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	s, err = Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	j, err = s.Find("a")
	if err != nil {
		return err
	}
	now, err := procfs.ReadStat(stranger.Process.Pid)
	if err != nil {
		return err
	}
	for i := range stopsEach {
		old := *r
		if i%2 == 1 { // of another boot, where the start time happens to be the same
			old.Boot, old.Trace.Start = "other", now.StartTime
		}
		if err := old.write(j.dir()); err != nil {
			return err
		}
		if err := j.stopsNobody(ctx); err != nil {
			return err
		}
		if state := testproc.State(stranger.Process.Pid); !strings.ContainsRune("SRD", rune(state)) {
			return fmt.Errorf("the stranger is in state %q", state)
		}
	}
	_, err = s.Clean(ctx)
	return err
}

// stopsEach is how many times a job is stopped by the old record, for each stranger.
const stopsEach = 10

func (j *Job) stopsNobody(ctx context.Context) error {
	if st, err := j.Status(); err != nil || st.State != Gone {
		return fmt.Errorf("state %v, error %w", st.State, err)
	}
	if err := j.Signal(syscall.SIGKILL); err == nil {
		return fmt.Errorf("signaled")
	}
	did, err := j.Stop(ctx)
	if err != nil || len(did.Killed) > 0 || len(did.Survivors) > 0 {
		return fmt.Errorf("stopped %v, error %w", did, err)
	}
	return nil
}

// stranger starts a process in a session of its own that gets the number.
func stranger(pid int) (*exec.Cmd, error) {
	for range 10_000 {
		// A hint: other threads of this process take numbers too.
		_ = os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0)
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if cmd.Process.Pid == pid {
			return cmd, nil
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return nil, fmt.Errorf("%d is not handed out", pid)
}

// TestReusedNumber has the number of a job that has ended belong to a stranger.
func TestReusedNumber(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("a PID namespace takes root")
	}
	unshare := testproc.HasProgram(t, "unshare")
	times := "5"
	if testproc.Soaking() {
		times = "1000"
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(deadline(t), unshare, "-pf", "--kill-child", "--mount-proc", exe)
	cmd.Env = append(os.Environ(), hostVariable+"="+t.TempDir(), reuseVariable+"="+times, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "reused "+times, strings.TrimSpace(string(out)))
}
