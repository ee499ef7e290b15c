package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A member is a process of the fleet that is killed and started again. One goroutine has it at a time.
type member struct {
	args []string
	mark string
	log  string
	cmd  *exec.Cmd
}

func (m *member) start(t *testing.T) {
	out, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if !assert.NoError(t, err) {
		return
	}
	defer out.Close()
	cmd := exec.Command(os.Args[0], m.args...)
	cmd.Env = append(os.Environ(), asFleet+"=1", m.mark)
	cmd.Stdout, cmd.Stderr = out, out
	if assert.NoError(t, cmd.Start()) {
		m.cmd = cmd
	}
}

func (m *member) end(sig syscall.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(sig)
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// marked counts the processes that have the variable in their environment.
func marked(variable string) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte(variable)) {
			n++
		}
	}
	return n
}

func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// A killed worker leaves nothing, and the next one of its host runs the job again.
func TestWorkerKilled(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	dir := t.TempDir()
	worker := &member{
		args: []string{"worker", "-url", f.nc.ConnectedUrl(), "-dir", dir + "/worker", "-host", "one"},
		mark: "FLEET_TEST_MARK=" + dir, log: dir + "/log",
	}
	_, err := f.submit(ctx, job("a", "mkdir "+dir+"/first || exit 0; sleep 1000 & sleep 1000"))
	require.NoError(t, err)
	worker.start(t)
	t.Cleanup(func() { worker.end(syscall.SIGTERM) })
	until(t, func() bool { _, err := os.Stat(dir + "/first"); return err == nil })
	worker.end(syscall.SIGKILL)
	until(t, func() bool { return marked(worker.mark) == 0 })
	worker.start(t)
	r, err := f.wait(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, Succeeded, r.State)
	assert.Greater(t, r.Attempt, uint64(1))
}

// soaking returns how long members are killed; FLEET_CHAOS_SECONDS can make it shorter.
func soaking(t *testing.T) time.Duration {
	if os.Getenv("SAFEEXEC_TEST_SOAK") == "" {
		t.Skip("takes minutes: SAFEEXEC_TEST_SOAK=1")
	}
	seconds, err := strconv.Atoi(os.Getenv("FLEET_CHAOS_SECONDS"))
	if err != nil {
		seconds = 300
	}
	return time.Duration(seconds) * time.Second
}

// A cluster is three servers and four workers, each a process.
type cluster struct {
	dir, mark, url   string
	servers, workers []*member
}

func newCluster(t *testing.T) *cluster {
	dir := t.TempDir()
	c := &cluster{dir: dir, mark: "FLEET_TEST_MARK=" + dir}
	ports := freePorts(t, 6)
	var urls, routes []string
	for i := range 3 {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3+i]))
	}
	c.url = strings.Join(urls, ",")
	for i := range 3 {
		c.servers = append(c.servers, c.member(fmt.Sprintf("server%d", i), "server", "-name", fmt.Sprintf("server%d", i),
			"-port", strconv.Itoa(ports[i]), "-route-port", strconv.Itoa(ports[3+i]), "-routes", strings.Join(routes, ",")))
	}
	for i := range 4 {
		name := fmt.Sprintf("host%d", i)
		c.workers = append(c.workers, c.member(name, "worker", "-url", c.url, "-host", name, "-label", "linux=3"))
	}
	return c
}

func (c *cluster) member(name string, args ...string) *member {
	return &member{
		args: append(args, "-dir", filepath.Join(c.dir, name)), mark: c.mark, log: filepath.Join(c.dir, name+".log"),
	}
}

// harass kills the member again and again.
func (m *member) harass(t *testing.T, over <-chan struct{}, least, most time.Duration, kills *atomic.Int64) {
	for {
		select {
		case <-over:
			return
		case <-time.After(least + rand.N(most-least)):
		}
		m.end(syscall.SIGKILL)
		kills.Add(1)
		time.Sleep(rand.N(3 * time.Second)) // it is away
		m.start(t)
	}
}

// A command notes that it runs, and whether it already does on the host: its lock is the kernel's, and free at the
// death of all that have it.
const noted = `exec 9>>$FLEET_TEST_DIR/$FLEET_HOST-$FLEET_ID.held
flock -n 9 || echo $FLEET_ID >>$FLEET_TEST_DIR/overlaps
echo $FLEET_ID >>$FLEET_TEST_DIR/runs
`

var shapes = []string{"true", "sleep 0.2", "sleep 1", "sleep 1000 & sleep 0.1", "echo some output; sleep 0.5; exit 3"}

func TestChaos(t *testing.T) {
	length := soaking(t)
	jobs := int(length.Seconds()) * 2000 / 300
	ctx, cancel := context.WithTimeout(context.Background(), length+20*time.Minute)
	defer cancel()
	c := newCluster(t)
	t.Setenv("FLEET_TEST_DIR", c.dir)
	var around sync.WaitGroup
	over := make(chan struct{})
	t.Cleanup(func() {
		around.Wait()
		for _, m := range append(c.workers, c.servers...) {
			m.end(syscall.SIGKILL)
		}
	})
	for _, m := range c.servers {
		m.start(t)
	}
	f, err := connect(ctx, c.url, settings{replicas: 3, limit: 5 * time.Second})
	require.NoError(t, err)
	defer f.close()
	watch, err := f.kv.Watch(ctx, "result.*")
	require.NoError(t, err)
	began := time.Now()
	time.AfterFunc(length, func() { close(over) })
	var serverKills, workerKills atomic.Int64
	for _, m := range c.servers {
		around.Go(func() { m.harass(t, over, 20*time.Second, 60*time.Second, &serverKills) })
	}
	for _, m := range c.workers {
		m.start(t)
		around.Go(func() { m.harass(t, over, 8*time.Second, 30*time.Second, &workerKills) })
	}
	around.Go(func() {
		for i := range jobs {
			j := job(fmt.Sprintf("job%d", i), noted+shapes[i%len(shapes)])
			j.Timeout = 4 * time.Second
			_, err := f.submit(ctx, j)
			assert.NoError(t, err)
			time.Sleep(length * 8 / 10 / time.Duration(jobs)) // so that there is work while members die
		}
	})

	results := make(map[string]map[uint64]bool)
	states := make(map[State]int)
	var again uint64
	for len(results) < jobs {
		select {
		case e := <-watch.Updates():
			if e == nil {
				continue
			}
			var r Result
			require.NoError(t, decode(e.Value(), &r))
			if results[r.ID] == nil {
				results[r.ID] = map[uint64]bool{}
				again += r.Attempt - 1
				states[r.State]++
			}
			results[r.ID][e.Revision()] = true
		case <-ctx.Done():
			t.Fatalf("%d of %d jobs have a result", len(results), jobs)
		}
	}
	took := time.Since(began)
	around.Wait()
	for id, revisions := range results {
		assert.Len(t, revisions, 1, id)
	}
	for _, m := range c.workers {
		m.end(syscall.SIGTERM)
	}
	for _, m := range c.servers {
		m.end(syscall.SIGKILL)
	}
	until(t, func() bool { return marked(c.mark) == 0 })
	overlaps, _ := os.ReadFile(filepath.Join(c.dir, "overlaps"))
	assert.Empty(t, string(overlaps), "two at once on a host")
	runs, err := os.ReadFile(filepath.Join(c.dir, "runs"))
	require.NoError(t, err)
	t.Logf("%d jobs in %s: %v; SIGKILL to servers %d times, to workers %d; %d redeliveries before results, %d commands begun; processes left 0",
		jobs, took.Round(time.Second), states, serverKills.Load(), workerKills.Load(), again, bytes.Count(runs, []byte("\n")))
}

// TestThroughput puts a worker beside a loop, with nothing to do but start and end a process.
func TestThroughput(t *testing.T) {
	soaking(t)
	const n = 300
	f, ctx := newFleet(t), deadline(t)
	began := time.Now()
	for range n {
		require.NoError(t, exec.Command("true").Run())
	}
	loop := time.Since(began)
	watch, err := f.kv.Watch(ctx, "result.*", jetstream.UpdatesOnly())
	require.NoError(t, err)
	began = time.Now()
	for i := range n {
		_, err := f.submit(ctx, Job{ID: fmt.Sprintf("job%d", i), Label: "linux", Args: []string{"true"}, Timeout: time.Minute})
		require.NoError(t, err)
	}
	submitted := time.Since(began)
	began = time.Now()
	startWorker(t, f, "one", t.TempDir())
	for range n {
		<-watch.Updates()
	}
	t.Logf("%d × true: a loop %s, submitting %s, one worker with two slots %s", n, loop, submitted, time.Since(began))
}
