package job

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// TestLogIsBounded writes many times what the log may hold.
func TestLogIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	const limit, total, burst = 4 * logGrain, 24 * logGrain, 6500*len("00006500\n") + len("done\n")
	j, err := s.Start(deadline(t), sh("while read go; do seq -f %08g 1 6500; echo done; done"), Name("a"),
		Endless(), Input(), Log(MaxSize(limit), Keep(2)))
	require.NoError(t, err)
	blocks := func() int64 {
		var st syscall.Stat_t
		require.NoError(t, syscall.Stat(j.LogPath(), &st))
		return st.Blocks * 512
	}
	for size := int64(0); size < total; {
		_, err := j.Input(deadline(t), []byte("go\n"))
		require.NoError(t, err)
		before := size
		testproc.Wait(t, func() bool {
			st, err := os.Stat(j.LogPath())
			require.NoError(t, err)
			size = st.Size()
			return size-before >= int64(burst)
		})
		testproc.Wait(t, func() bool { return blocks() <= 2*limit+2*logGrain })
	}
	// Lines are numbered within each burst, so that one that is torn shows.
	var missed, next int64
	for line, err := range j.Follow(deadline(t)) {
		require.NoError(t, err)
		assert.Equal(t, next+line.Missed, line.Offset)
		missed += line.Missed
		next = line.Offset + int64(len(line.Text)) + 1
		if line.Text != "done" {
			require.Len(t, line.Text, 8, "a whole line")
		}
		if st, err := os.Stat(j.LogPath()); err == nil && next == st.Size() {
			break
		}
	}
	assert.Positive(t, missed)
	lines, err := j.Tail(2)
	require.NoError(t, err)
	assert.Equal(t, "done", lines[len(lines)-1].Text)
}

// TestFollowMissesNothing follows while the job writes, and ends with it.
func TestFollowMissesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("read go; seq 1 20000; printf end"), Name("a"), Endless(), Input())
	require.NoError(t, err)
	go func() { _, _ = j.Input(deadline(t), []byte("go\n")) }()
	n := 0
	var last Line
	for line, err := range j.Follow(deadline(t)) {
		require.NoError(t, err)
		require.Zero(t, line.Missed)
		n++
		if last = line; !line.Part {
			require.Equal(t, strconv.Itoa(n), line.Text)
		}
	}
	assert.Equal(t, 20001, n)
	assert.Equal(t, "end", last.Text)
	assert.True(t, last.Part)
}

func TestFollowTruncated(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh(`echo a long line; read go; echo b; read go`), Name("a"), Endless(), Input())
	require.NoError(t, err)
	var got []string
	for line, err := range j.Follow(deadline(t)) {
		require.NoError(t, err)
		got = append(got, line.Text)
		if len(got) == 1 {
			require.NoError(t, os.Truncate(j.LogPath(), 0))
			_, err := j.Input(deadline(t), []byte("go\n"))
			require.NoError(t, err)
		} else {
			break
		}
	}
	assert.Equal(t, []string{"a long line", "b"}, got)
}

func TestLongLine(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), sh("head -c 200000 /dev/zero | tr '\\0' x; echo; echo y"), Name("a"), Endless())
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	lines, err := j.Tail(10)
	require.NoError(t, err)
	whole := strings.Join(texts(lines[:len(lines)-1]), "")
	assert.Len(t, whole, 200000)
	assert.Equal(t, "y", lines[len(lines)-1].Text)
}

// TestSettings has each setting that the command can see.
func TestSettings(t *testing.T) {
	s := open(t, t.TempDir())
	pidFile := filepath.Join(t.TempDir(), "web.pid")
	cmd := sh(`umask; cat /proc/self/oom_score_adj; ulimit -n; pwd; echo "$X"
		read line; echo "got $line"; sleep 1000`)
	cmd.Dir, cmd.Env = "/", []string{"X=y", "PATH=" + os.Getenv("PATH")}
	j, err := s.Start(deadline(t), cmd, Name("a"), Endless(), Input(), PIDFile(pidFile), Umask(0o027),
		OOMScoreAdjust(500), Limit(safeexec.LimitOpenFiles, 77))
	require.NoError(t, err)
	pid, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	assert.Equal(t, strconv.Itoa(status(t, j).PID)+"\n", string(pid))
	_, err = j.Input(deadline(t), []byte("hello\n"))
	require.NoError(t, err)
	var got []string
	for line, err := range j.Follow(deadline(t)) {
		require.NoError(t, err)
		if got = append(got, line.Text); line.Text == "got hello" {
			break
		}
	}
	assert.Equal(t, []string{"0027", "500", "77", "/", "y", "got hello"}, got)
	require.NoError(t, j.Signal(syscall.SIGTERM))
	_, err = j.Stop(deadline(t))
	require.NoError(t, err)
	assert.NoFileExists(t, pidFile)
	before := syscall.Umask(0o022)
	syscall.Umask(before)
	assert.NotEqual(t, 0o027, before, "this program's umask is its own")
}

func TestInheritsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	j, err := s.Start(deadline(t), exec.Command("ls", "/proc/self/fd"), Name("a"), Endless())
	require.NoError(t, err)
	_, err = j.Wait(deadline(t))
	require.NoError(t, err)
	lines, err := j.Tail(10)
	require.NoError(t, err)
	assert.Equal(t, []string{"0", "1", "2", "3"}, texts(lines), "3 is the directory that ls reads")
}

func TestRun(t *testing.T) {
	s := open(t, t.TempDir())
	got, err := s.Run(deadline(t), sh("echo quick; exit 4"), Yield(time.Minute), Endless())
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 4, exit.ExitCode())
	assert.Equal(t, "quick\n", string(got.Output))
	assert.Nil(t, got.Job)
	jobs, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, jobs)

	got, err = s.Run(deadline(t), sh("echo slow; exec sleep 1000"), Yield(0), Endless())
	require.NoError(t, err)
	require.NotNil(t, got.Job)
	assert.Equal(t, Running, got.Status.State)
	assert.Equal(t, "slow", firstLine(t, got.Job).Text)
	_, err = got.Job.Kill(deadline(t))
	require.NoError(t, err)
	assert.Equal(t, syscall.SIGKILL, status(t, got.Job).Exit.Signal)
}

// TestLogOfTenGiB writes as fast as it can through the default bound, and is followed meanwhile.
func TestLogOfTenGiB(t *testing.T) {
	if !testproc.Soaking() {
		t.Skip("takes minutes: SAFEEXEC_TEST_SOAK=1")
	}
	s := open(t, t.TempDir())
	// Lines of 1024 bytes, which end with the last byte.
	j, err := s.Start(deadline(t), sh(`yes "$(printf %01023d 7)" | head -c 10G; read go`), Name("a"), Endless(), Input())
	require.NoError(t, err)
	var lines, missed, next int64
	var followed sync.WaitGroup
	followed.Go(func() {
		for line, err := range j.Follow(deadline(t)) {
			if !assert.NoError(t, err) || !assert.Equal(t, next+line.Missed, line.Offset) || !assert.Len(t, line.Text, 1023) {
				return
			}
			lines, missed, next = lines+1, missed+line.Missed, line.Offset+1024
			if next == 10<<30 {
				return
			}
		}
	})
	var most, size int64
	testproc.Wait(t, func() bool {
		var st syscall.Stat_t
		require.NoError(t, syscall.Stat(j.LogPath(), &st))
		most, size = max(most, st.Blocks*512), st.Size
		return size == 10<<30 && st.Blocks*512 <= 3*64<<20+2*logGrain
	})
	followed.Wait()
	assert.Equal(t, int64(10<<30), lines*1024+missed)
	t.Logf("%d MiB at most on the disk, of %d MiB; %d lines followed, %d MiB missed", most>>20, size>>20, lines, missed>>20)
}
