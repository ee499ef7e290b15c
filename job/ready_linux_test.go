package job

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// send is a shell function that sends a message as sd_notify(3) does, from a process that waits a
// while.
const send = `send() { perl -MSocket -e '
	socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; my $p = $ENV{NOTIFY_SOCKET};
	send($s, $ARGV[0], 0, pack_sockaddr_un($p)) or die "send: $!"; sleep 1000' "$1" & }; `

func TestReady(t *testing.T) {
	testproc.HasProgram(t, "perl")
	file := filepath.Join(t.TempDir(), "up")
	asked := 0
	tests := []struct {
		name   string
		script string
		cond   []Condition
	}{
		{"log line", "echo starting; echo now up; exec sleep 1000", []Condition{LogLine(regexp.MustCompile("up$"))}},
		{"file", "touch " + file + "; exec sleep 1000", []Condition{File(file)}},
		{"uptime", "exec sleep 1000", []Condition{Uptime(time.Millisecond)}},
		{"probe", "exec sleep 1000", []Condition{Probe(func(context.Context) bool { asked++; return asked == 2 })}},
		{"notify", send + `send "STATUS=at work
READY=1"; exec sleep 1000`, []Condition{Notify()}},
		{"the first of two", "exec sleep 1000", []Condition{LogLine(regexp.MustCompile("never")), Uptime(0)}},
		{"a daemon that goes into the background", "(sleep 0; echo up; sleep 1000) & exit 0",
			[]Condition{LogLine(regexp.MustCompile("up"))}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			j, err := s.Start(deadline(t), sh(tt.script), Name("a"), Endless(), Ready(time.Minute, tt.cond...))
			require.NoError(t, err)
			st := status(t, j)
			assert.True(t, st.Ready)
			assert.Equal(t, Running, st.State)
			if tt.name == "notify" {
				assert.Equal(t, "at work", st.Text)
			}
		})
	}
}

// TestReadyEnds has a job that ends before it is ready: nobody waits for the time to pass.
func TestReadyEnds(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("echo no such database; (sleep 1000 &) ; exit 1"), Name("a"), Endless(),
		Ready(time.Hour, LogLine(regexp.MustCompile("ready")), Port("127.0.0.1:1")))
	require.ErrorIs(t, err, ErrNotReady)
	require.ErrorIs(t, err, ErrEnded)
	var e *ReadyError
	require.ErrorAs(t, err, &e)
	assert.Equal(t, []string{"no such database"}, texts(e.Last))
	assert.Equal(t, Ended, status(t, j).State, "what the first process has left is ended")
}

func TestNotReadyInTime(t *testing.T) {
	s := open(t, t.TempDir())
	never := LogLine(regexp.MustCompile("ready"))
	for _, stop := range []bool{false, true} {
		opts := []Option{Name("a"), Endless(), Ready(30*time.Millisecond, never)}
		if stop {
			opts = append(opts, StopUnready())
		}
		j, err := s.Start(deadline(t), sh("exec sleep 1000"), opts...)
		require.ErrorIs(t, err, ErrNotReady)
		require.NotErrorIs(t, err, ErrEnded)
		var e *ReadyError
		require.ErrorAs(t, err, &e)
		assert.NotNil(t, e.Report)
		assert.Equal(t, stop, e.Stopped)
		if stop {
			assert.Equal(t, ByUnready, status(t, j).Reason)
			continue
		}
		assert.Equal(t, Running, status(t, j).State)
		_, err = j.Kill(deadline(t))
		require.NoError(t, err)
	}
}

// TestNotifyOfStrangers has this process, which is not of the job, say that it is ready.
func TestNotifyOfStrangers(t *testing.T) {
	s := open(t, t.TempDir())
	forged := Probe(func(context.Context) bool {
		r, err := read(filepath.Join(s.root, "a"))
		if err != nil || r.Phase != phaseStarted {
			return false
		}
		assert.NoError(t, forge(r.Settings.Socket))
		return true
	})
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless(), Ready(time.Minute, Notify(), forged))
	require.NoError(t, err)
	assert.Empty(t, status(t, j).Text)
	select {
	case <-j.keeper().socket.ready:
		assert.Fail(t, "it believed a stranger")
	default:
	}
}

// pass sends a message with a descriptor. The method of a connection has no place for its peer.
func pass(conn *net.UnixConn, message string, file *os.File) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	e := raw.Write(func(fd uintptr) bool {
		err = syscall.Sendmsg(int(fd), []byte(message), syscall.UnixRights(int(file.Fd())), nil, 0)
		return !errors.Is(err, syscall.EAGAIN)
	})
	return errors.Join(err, e)
}

// forge sends a message, and another one that passes a descriptor, which is closed once both have been taken.
func forge(socket string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = conn.Write([]byte("READY=1\nSTATUS=forged"))
	if err == nil {
		err = pass(conn, "BARRIER=1", w)
	}
	w.Close()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return err
}

// TestExtendTimeout has a job that says twice how long it takes: longer than it has, which counts,
// and shorter, which does not.
func TestExtendTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := silentKeeper(t)
		results, pending := make(chan error, 1), 1
		began := time.Now()
		time.AfterFunc(4*time.Second, func() { k.take("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=slow") })
		time.AfterFunc(20*time.Second, func() { k.take("EXTEND_TIMEOUT_USEC=1000000") })
		err := readiness{&config{within: 5 * time.Second}, k}.race(t.Context(), results, &pending)
		require.ErrorIs(t, err, errLate)
		assert.Equal(t, 34*time.Second, time.Since(began))
	})
}

// TestReadyIsTheLastOfItsMessage has a message with READY=1 first, which is long enough for the
// others to be read after it if it took effect at once.
func TestReadyIsTheLastOfItsMessage(t *testing.T) {
	for range 20 {
		k := silentKeeper(t)
		text := make(chan *string, 1)
		go func() {
			<-k.socket.ready
			text <- k.socket.text.Load()
		}()
		k.take("READY=1\n" + strings.Repeat("X=1\n", 15000) + "STATUS=up")
		if got := <-text; assert.NotNil(t, got) {
			assert.Equal(t, "up", *got)
		}
	}
}

// silentKeeper keeps a job that nobody has started, and that has ended.
func silentKeeper(t *testing.T) *keeper {
	s := &Store{root: t.TempDir(), ctx: t.Context()}
	k := newKeeper(&Job{s, "a"}, &record{}, nil)
	require.NoError(t, os.Mkdir(k.job.dir(), 0o700))
	require.NoError(t, (&record{Name: "a", Phase: phaseEnded}).write(k.job.dir()))
	k.socket = newSocket("", nil)
	t.Cleanup(k.cancel)
	return k
}

// TestWatchdogIsFed has a job that sends WATCHDOG=1 often enough, from when it is ready, for a while.
func TestWatchdogIsFed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := silentKeeper(t)
		k.set.Watchdog = time.Second
		began := time.Now()
		ended := make(chan time.Duration)
		go func() {
			k.guard()
			ended <- time.Since(began)
		}()
		time.Sleep(10 * time.Second)
		close(k.ready)
		for range 10 {
			time.Sleep(900 * time.Millisecond)
			k.take("WATCHDOG=1")
		}
		assert.Equal(t, 20*time.Second, <-ended)
	})
}

// TestMessagesOfTheManager has this program be a service of systemd itself.
func TestMessagesOfTheManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/nowhere/notify")
	t.Setenv("WATCHDOG_PID", "1")
	t.Setenv("WATCHDOG_USEC", "1")
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh(`echo "${WATCHDOG_PID-none} ${WATCHDOG_USEC-none} $NOTIFY_SOCKET"; exec sleep 1000`),
		Name("a"), Endless(), Ready(time.Minute, Notify(), Uptime(0)))
	require.NoError(t, err)
	r, err := read(j.dir())
	require.NoError(t, err)
	assert.Equal(t, "none none "+r.Settings.Socket, firstLine(t, j).Text)
}

func TestWatchdog(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless(), Watchdog(50*time.Millisecond),
		Ready(time.Minute, Notify(), Uptime(0)))
	require.NoError(t, err)
	st, _ := j.Wait(deadline(t))
	assert.Equal(t, ByWatchdog, st.Reason)
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("exec sleep 1000"), Name("a"), Endless(),
		Ready(time.Minute, Port(l.Addr().String())))
	require.ErrorIs(t, err, ErrPortTaken)
	assert.Nil(t, j)
	jobs, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, jobs)
}

// TestTornRecord has a record that some other program has written.
func TestTornRecord(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	for _, text := range []string{"", "{", `{"version": 2, "name": "a"}`, `{"version": 1, "name": "b"}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a", recordFile), []byte(text), 0o600))
		j, err := s.Find("a")
		require.NoError(t, err)
		_, err = j.Stop(deadline(t))
		require.ErrorIs(t, err, ErrRecord)
		_, err = s.Start(deadline(t), sh("true"), Name("a"), Endless())
		require.ErrorIs(t, err, ErrRecord)
		_, err = s.Clean(deadline(t))
		require.ErrorIs(t, err, ErrRecord)
	}
}
