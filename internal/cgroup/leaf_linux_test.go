package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func list(t testing.TB, l *Leaf) []int {
	t.Helper()
	var pids []int
	require.NoError(t, l.PIDs(func(pid int) bool { pids = append(pids, pid); return true }))
	slices.Sort(pids)
	return slices.Compact(pids)
}

func TestLeaf(t *testing.T) {
	testproc.NoLeaks(t)
	l := realLeaf(t)
	populated, err := l.Populated()
	require.NoError(t, err)
	assert.False(t, populated)
	pids := startReady(t, l, testproc.Command("fork", "3"))
	populated, err = l.Populated()
	require.NoError(t, err)
	assert.True(t, populated)
	slices.Sort(pids)
	assert.Equal(t, pids, list(t, l))
	for _, pid := range pids {
		assert.True(t, l.Contains(pid))
	}
	assert.False(t, l.Contains(os.Getpid()))
	assert.False(t, l.Contains(1<<30))
	require.Error(t, l.Remove(time.Time{}), "it is in use")
}

// A zombie is not alive: it neither populates a cgroup nor keeps it.
func TestZombieDoesNotPopulate(t *testing.T) {
	testproc.NoLeaks(t)
	l := realLeaf(t)
	cmd := testproc.Command("exit", "0")
	startIn(t, l, cmd)
	testproc.WaitState(t, cmd.Process.Pid, "Z")
	unpopulated(t, l)
	assert.Empty(t, list(t, l))
	require.NoError(t, l.Remove(end(t)))
	assert.NoDirExists(t, l.dir)
}

// A command can make cgroups of its own below the leaf, threaded ones too.
func TestNested(t *testing.T) {
	testproc.NoLeaks(t)
	for name, kill := range map[string]func(*Leaf) error{"kill": (*Leaf).Kill, "kill each": (*Leaf).killEach} {
		t.Run(name, func(t *testing.T) {
			l := realLeaf(t)
			pids := startReady(t, l, testproc.Command("fork", "3"))
			deep := filepath.Join(l.dir, "a", "b", "c")
			require.NoError(t, os.MkdirAll(deep, 0o755))
			threads := filepath.Join(l.dir, "t")
			require.NoError(t, os.Mkdir(threads, 0o755))
			for _, pid := range pids[:2] {
				require.NoError(t, write(deep, "cgroup.procs", strconv.Itoa(pid)))
			}
			threaded := write(threads, "cgroup.type", "threaded") == nil
			slices.Sort(pids)
			if !threaded {
				assert.Equal(t, pids, list(t, l))
			}
			assert.True(t, l.Contains(pids[0]))
			require.NoError(t, kill(l))
			unpopulated(t, l)
			require.NoError(t, l.Remove(end(t)))
		})
	}
}

// What leaves the session, forks twice and goes on forking stays in the cgroup, on either way to kill.
func TestForkStorm(t *testing.T) {
	testproc.HasProgram(t, "python3")
	testproc.NoLeaks(t)
	for name, kill := range map[string]func(*Leaf) error{"kill": (*Leaf).Kill, "kill each": (*Leaf).killEach} {
		t.Run(name, func(t *testing.T) {
			l := realLeaf(t)
			startIn(t, l, exec.Command(testproc.HasProgram(t, "python3"), "-S", "-c", storm, "87"))
			eventually(t, func() bool { return len(list(t, l)) > 80 }, "87 processes")
			began := time.Now()
			require.NoError(t, kill(l))
			for populated := true; populated; {
				require.NoError(t, kill(l))
				var err error
				populated, err = l.Populated()
				require.NoError(t, err)
				require.True(t, time.Now().Before(end(t)))
			}
			t.Logf("87 processes that go on forking: empty after %v", time.Since(began))
			require.NoError(t, l.Remove(end(t)))
		})
	}
}

// storm starts processes that leave the session by a double fork and replace themselves for ever, at a
// pace that leaves PIDs where nobody reaps zombies.
const storm = `import os, sys, time
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork(): os._exit(0)
            time.sleep(0.5)
while True: time.sleep(600)`

func TestRefused(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may make cgroups: run as an ordinary user")
	}
	l, err := Make("")
	if err == nil {
		require.NoError(t, l.Remove(end(t)))
		t.Skip("this user's cgroup was delegated")
	}
	var e *Error
	require.ErrorAs(t, err, &e)
	t.Log(err)
	if errors.Is(err, fs.ErrPermission) {
		assert.NotEmpty(t, e.Dir)
	}
}

// However many cgroups the command has made below, to remove them takes no longer than is given.
func TestRemoveIsBounded(t *testing.T) {
	for name, until := range map[string]time.Duration{"past": 0, "soon": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			l := realLeaf(t)
			const below = 1500 // some 10 µs each
			for i := range below {
				require.NoError(t, os.MkdirAll(l.dir+"/a/"+strconv.Itoa(i), 0o755))
			}
			require.Error(t, remove(l.dir, time.Now().Add(until)))
			left, err := os.ReadDir(l.dir + "/a")
			require.NoError(t, err)
			assert.NotEmpty(t, left)
			require.NoError(t, remove(l.dir, end(t)))
			assert.NoDirExists(t, l.dir)
		})
	}
}

func TestRemoveStale(t *testing.T) {
	testproc.NoLeaks(t)
	base := realLeaf(t) // so that no other test's leaves are near
	mine, err := Make(base.dir)
	require.NoError(t, err)
	defer mine.Close()
	inUse := startReady(t, mine, testproc.Command("hang"))
	theirs, err := Make(base.dir)
	require.NoError(t, err)
	cmd := testproc.Command("hang")
	startReady(t, theirs, cmd)
	require.NoError(t, os.MkdirAll(theirs.dir+"/below/below", 0o755))
	empty, err := Make(base.dir)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(base.dir+"/safe", 0o755)) // somebody else's

	n, err := RemoveStale(base.dir)
	require.NoError(t, err)
	assert.Zero(t, n, "all of them have an owner")
	theirs.Close() // as the kernel does when their owner dies
	empty.Close()
	n, err = RemoveStale(base.dir)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.NoDirExists(t, theirs.dir)
	assert.NoDirExists(t, empty.dir)
	assert.DirExists(t, base.dir+"/safe")
	assert.Equal(t, inUse, list(t, mine))
	testproc.WaitState(t, cmd.Process.Pid, "Z")
	require.NoError(t, mine.Kill())
	require.NoError(t, mine.Remove(end(t)))
}

// A cgroup whose name merely begins like that of a leaf is somebody else's.
func TestRemoveStaleLeavesOthers(t *testing.T) {
	testproc.NoLeaks(t)
	base := realLeaf(t)
	theirs := &Leaf{dir: base.dir + "/safeexec-worker.service", name: "safeexec-worker.service", fd: -1, events: -1}
	require.NoError(t, os.Mkdir(theirs.dir, 0o755))
	var err error
	theirs.fd, err = sys.OpenDir(theirs.dir) // without the lock, of which they know nothing
	require.NoError(t, err)
	defer theirs.Close()
	pids := startReady(t, theirs, testproc.Command("hang"))
	n, err := RemoveStale(base.dir)
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.Equal(t, pids, list(t, theirs))
}

// A leaf that was made is its owner's, whatever a remover does at the same time.
func TestMakeAgainstRemoveStale(t *testing.T) {
	testproc.NoLeaks(t)
	base := realLeaf(t)
	stop := make(chan struct{})
	var removers sync.WaitGroup
	for range 2 {
		removers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, err := RemoveStale(base.dir)
					assert.NoError(t, err)
				}
			}
		})
	}
	for range 500 {
		l, err := Make(base.dir)
		if errors.Is(err, errTaken) { // too often in a row: an error, and nothing left
			continue
		}
		require.NoError(t, err)
		assert.DirExists(t, l.dir)
		_, err = l.Populated()
		require.NoError(t, err)
		require.NoError(t, l.Remove(end(t)))
	}
	close(stop)
	removers.Wait()
	entries, err := filepath.Glob(base.dir + "/" + namePrefix + "*")
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// EPOLLPRI on cgroup.events says that it was populated or emptied.
func TestEventsArePolled(t *testing.T) {
	testproc.NoLeaks(t)
	l := realLeaf(t)
	epfd, err := sys.EpollCreate()
	if err != nil {
		t.Skipf("needs epoll: %v", err)
	}
	defer sys.Close(epfd)
	require.NoError(t, sys.EpollAdd(epfd, l.EventsFD(), sys.EpollChange, 1))
	var events [1]sys.EpollEvent
	_, err = l.Populated()
	require.NoError(t, err)
	n, err := sys.EpollPoll(epfd, events[:])
	require.NoError(t, err)
	assert.Zero(t, n)
	startReady(t, l, testproc.Command("hang"))
	eventually(t, func() bool { n, _ := sys.EpollPoll(epfd, events[:]); return n == 1 }, "populated")
	populated, err := l.Populated()
	require.NoError(t, err)
	assert.True(t, populated)
	n, err = sys.EpollPoll(epfd, events[:])
	require.NoError(t, err)
	assert.Zero(t, n, "it was asked")
	require.NoError(t, l.Kill())
	eventually(t, func() bool { n, _ := sys.EpollPoll(epfd, events[:]); return n == 1 }, "emptied")
	unpopulated(t, l)
}

func BenchmarkLeaf(b *testing.B) {
	for b.Loop() {
		l, err := Make("")
		if err != nil {
			b.Skip(err)
		}
		if err := l.Remove(time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
