package discard

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m, testproc.Uses("spew-forever"), testproc.Idle(poll.CloseIdle))
}

// open makes a pipe. The Pool gets the returned end, the test writes to the file.
func open(t testing.TB) (*pipe.End, *os.File) {
	t.Helper()
	var end pipe.End
	w, err := end.Output()
	require.NoError(t, err)
	t.Cleanup(func() { w.Close(); end.Close() })
	return &end, w
}

// reserve takes places that must be there.
func reserve(t testing.TB, d *Pool, n int) {
	t.Helper()
	ok, err := d.Reserve(n)
	require.NoError(t, err)
	require.True(t, ok)
}

// take leaves one pipe to d.
func take(t testing.TB, d *Pool) (*Pipe, *os.File) {
	t.Helper()
	reserve(t, d, 1)
	end, w := open(t)
	return d.Take(end, Origin{}), w
}

// reaches waits until p has discarded n bytes.
func reaches(t testing.TB, p *Pipe, n int64) {
	t.Helper()
	testproc.Wait(t, func() bool { return p.Bytes() >= n })
}

// ends waits for the end of p.
func ends(t testing.TB, p *Pipe) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-testproc.Deadline(t).Done():
		t.Fatal("the pipe did not end before the test's deadline")
	}
}

// blank is a poller that refuses to watch, as epoll does beyond what a user may watch.
type blank struct{ poll.Poller }

func (blank) Add(int, poll.Direction, int) error { return syscall.ENOSPC }

// eachWay runs f with all that a reader can be made of. The poller is changed before there is a goroutine.
func eachWay(t *testing.T, f func(t *testing.T, d *Pool)) {
	for _, way := range []struct {
		name   string
		change func(r *reader)
	}{
		{"watched", func(*reader) {}},
		{"unwatched", func(r *reader) { r.poller = blank{r.poller} }},
	} {
		t.Run(way.name, func(t *testing.T) {
			testproc.NoLeaks(t)
			d := New(8)
			reserve(t, d, 1) // which keeps the reader
			defer d.Free(1)
			way.change(d.reader)
			f(t, d)
		})
	}
}

func TestWriterNeitherBlocksNorDies(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Pool) {
		p, w := take(t, d)
		data := make([]byte, 300<<10) // more than a pipe holds
		for range 3 {
			n, err := w.Write(data)
			require.NoError(t, err)
			require.Equal(t, len(data), n)
		}
		reaches(t, p, 3*int64(len(data)))
		assert.Equal(t, []*Pipe{p}, d.Pipes())
		require.NoError(t, w.Close())
		ends(t, p)
		assert.EqualValues(t, 3*len(data), p.Bytes())
		assert.Empty(t, d.Pipes())
		p.Close()
	})
}

func TestCloseEndsTheWriter(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Pool) {
		p, w := take(t, d)
		_, err := w.WriteString("tick")
		require.NoError(t, err)
		reaches(t, p, 4)
		p.Close()
		testproc.Wait(t, func() bool { // the close may have been left to a hand that gets no time
			_, err = w.WriteString("tock")
			return err != nil
		})
		require.ErrorIs(t, err, syscall.EPIPE)
		p.Close()
		ends(t, p)
		assert.EqualValues(t, 4, p.Bytes())
	})
}

// A noted poller says until when each wait is.
type noted struct {
	poll.Poller
	waits chan time.Time
}

func (n noted) Wait(until time.Time) ([]poll.Event, error) {
	n.waits <- until
	return n.Poller.Wait(until)
}

// A pipe that a process holds is not looked at again before the call on it returns.
func TestReaderSleepsWhileAPipeIsHeld(t *testing.T) {
	testproc.NeedsMissingPages(t)
	testproc.NoLeaks(t)
	d := New(1)
	reserve(t, d, 1)
	waits := make(chan time.Time, 1<<10)
	d.reader.poller = noted{d.reader.poller, waits}
	end, w := open(t)
	reader, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	require.NoError(t, err)
	defer reader.Close()
	_, err = w.WriteString("some")
	require.NoError(t, err)
	letGo := testproc.HoldByReading(t, int(reader.Fd()))

	p := d.Take(end, Origin{})
	<-waits // until there is something to read
	assert.Zero(t, <-waits, "and then until it is let go of")
	letGo()
	_, err = w.WriteString("tick")
	require.NoError(t, err)
	reaches(t, p, 4)
	p.Close()
}

// One that always has something to read must not keep another waiting.
func TestFirehoseKeepsNobodyWaiting(t *testing.T) {
	eachWay(t, func(t *testing.T, d *Pool) {
		hose, w := take(t, d)
		cmd := testproc.Command("spew-forever")
		cmd.Stdout = w
		require.NoError(t, cmd.Start())
		defer cmd.Wait()
		defer hose.Close() // of which it dies
		require.NoError(t, w.Close())
		reaches(t, hose, 1<<20)
		for range 5 {
			p, w := take(t, d)
			_, err := w.WriteString("tick")
			require.NoError(t, err)
			reaches(t, p, 4)
			p.Close()
		}
	})
}

func TestLimit(t *testing.T) {
	testproc.NoLeaks(t)
	d := New(3)
	reserve(t, d, 2)
	end, w := open(t)
	p := d.Take(end, Origin{PID: 7, Program: "x", FD: 2})
	assert.False(t, end.Open(), "it has another owner")
	assert.Equal(t, Origin{PID: 7, Program: "x", FD: 2}, p.Origin)
	ok, err := d.Reserve(2)
	require.NoError(t, err)
	assert.False(t, ok)
	reserve(t, d, 1)
	ok, _ = d.Reserve(1)
	assert.False(t, ok)
	d.Free(1)
	reserve(t, d, 1)
	require.NoError(t, w.Close())
	ends(t, p)
	reserve(t, d, 1) // the pipe's own
	d.Free(3)
	assert.Nil(t, d.reader, "with nobody to come there is no poller")
}

// Reserving without a descriptor to be had says so, and takes nothing.
func TestReserveWithoutDescriptors(t *testing.T) {
	if testproc.IsDisabled("epoll") {
		t.Skip("the portable poller needs no descriptor of its own")
	}
	testproc.NoLeaks(t)
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: old.Max}))
	d := New(1)
	ok, err := d.Reserve(1)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old))
	require.ErrorIs(t, err, syscall.EMFILE)
	assert.False(t, ok)
	reserve(t, d, 1)
	d.Free(1)
}

// Pipes come, end and are closed by many goroutines at once. The race detector watches.
func TestManyAtOnce(t *testing.T) {
	collect := debug.SetGCPercent(-1) // which closes pollers that nobody has closed
	t.Cleanup(func() { debug.SetGCPercent(collect) })
	testproc.NoLeaks(t)
	d := New(16)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for round := range 50 {
				p, w := take(t, d)
				_, _ = w.WriteString("tick")
				if (i+round)%2 == 0 {
					w.Close()
					ends(t, p)
				}
				all.Go(p.Close)
				p.Close()
				w.Close()
				for _, other := range d.Pipes() {
					_ = other.Bytes()
				}
			}
		})
	}
	all.Wait()
	assert.Empty(t, d.Pipes())
	assert.Zero(t, d.taken)
}

// The pipes of a host that leaves many services cost one goroutine and no thread.
func TestSixtyFourPipes(t *testing.T) {
	testproc.NoLeaks(t)
	const n = 64
	d := New(n)
	warm, w := take(t, d)
	_, _ = w.WriteString("x")
	reaches(t, warm, 1)
	defer warm.Close()
	d.limit += n

	ends, files := make([]*pipe.End, n), make([]*os.File, n)
	for i := range ends {
		ends[i], files[i] = open(t)
	}
	goroutines, before, bytes := runtime.NumGoroutine(), threads(t), heap()
	pipes := make([]*Pipe, n)
	for i := range pipes {
		reserve(t, d, 1)
		pipes[i] = d.Take(ends[i], Origin{})
	}
	for range 3 {
		for i, p := range pipes {
			had := p.Bytes()
			_, err := files[i].WriteString("tick")
			require.NoError(t, err)
			reaches(t, p, had+4)
		}
	}
	each := (float64(heap()) - float64(bytes)) / n
	t.Logf("%d goroutines, %d threads more; %.0f bytes of heap a pipe", runtime.NumGoroutine()-goroutines, threads(t)-before, each)
	if !testproc.IsDisabled("epoll") {
		testproc.Wait(t, func() bool { return runtime.NumGoroutine() <= goroutines }) // a timer's function is one for a moment
		assert.Less(t, each, 2000.0)
	}
	assert.Less(t, threads(t)-before, n/2, "far from one each; a busy machine has the runtime make some")
	for _, p := range pipes {
		p.Close()
	}
}

func threads(t testing.TB) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(status), "\nThreads:")
	var n int
	_, err = fmt.Sscan(after, &n)
	require.NoError(t, err)
	return n
}

func heap() uint64 {
	runtime.GC() //nolint:revive // to count what is live
	runtime.GC() //nolint:revive // and what the first one has only put aside
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDiscard is one pipe that a child fills as fast as it can: what the reading costs, beside
// the goroutine with io.Copy that is the usual way. cpu-ns/KiB is this process's own.
func BenchmarkDiscard(b *testing.B) {
	cat := testproc.HasProgram(b, "cat")
	for _, impl := range []struct {
		name string
		run  func(b *testing.B, end *pipe.End, total int64)
	}{
		{"io.Copy", func(b *testing.B, end *pipe.End, total int64) {
			moved := end.Move() // the file closes it
			r := os.NewFile(uintptr(moved.FD()), "pipe")
			_, err := io.CopyN(io.Discard, r, total)
			require.NoError(b, err)
			r.Close()
		}},
		{"discard", discardAll},
	} {
		b.Run("impl="+impl.name, func(b *testing.B) {
			const chunk = 64 << 10
			end, w := open(b)
			cmd := exec.Command(cat, "/dev/zero")
			cmd.Stdout = w
			require.NoError(b, cmd.Start())
			require.NoError(b, w.Close())
			b.SetBytes(chunk)
			b.ResetTimer()
			used := selfCPU()
			impl.run(b, end, int64(b.N)*chunk)
			used = selfCPU() - used
			b.StopTimer()
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*chunk>>10), "cpu-ns/KiB")
			_ = cmd.Wait() // of SIGPIPE
		})
	}
}

func discardAll(b *testing.B, end *pipe.End, total int64) {
	d := New(1)
	reserve(b, d, 1)
	p := d.Take(end, Origin{})
	for p.Bytes() < total {
		time.Sleep(100 * time.Microsecond)
	}
	p.Close()
}

func selfCPU() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
