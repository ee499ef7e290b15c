package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/guard"
)

// asFleet makes this test binary the program.
const asFleet = "FLEET_TEST_PROGRAM"

func TestMain(m *testing.M) {
	guard.Init()
	if os.Getenv(asFleet) != "" {
		os.Unsetenv(asFleet)
		main()
	}
	os.Exit(m.Run())
}

// within is more than any step takes.
const within = 4 * time.Minute

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// until waits for a fact.
func until(t *testing.T, fact func() bool) {
	t.Helper()
	require.Eventually(t, fact, within, 20*time.Millisecond)
}

// newFleet has a server of its own.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	s, err := startServer(serverConfig{name: "test", dir: t.TempDir(), port: -1})
	require.NoError(t, err)
	t.Cleanup(func() { stopServer(s) })
	f, err := connect(deadline(t), s.ClientURL(), settings{replicas: 1, limit: time.Minute})
	require.NoError(t, err)
	t.Cleanup(f.close)
	return f
}

// startWorker serves until the test ends; what it returns ends it before.
func startWorker(t *testing.T, f *fleet, host, dir string) (*worker, func()) {
	t.Helper()
	w, err := newWorker(f, host, dir, map[string]int{"linux": 2})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(deadline(t))
	served := make(chan error, 1)
	go func() { served <- w.serve(ctx); close(served) }()
	stop := func() {
		cancel()
		assert.NoError(t, <-served)
	}
	t.Cleanup(stop)
	return w, stop
}

func job(id string, script string) Job {
	return Job{ID: id, Label: "linux", Args: []string{"sh", "-c", script}, Timeout: time.Minute}
}

func TestResultAndLog(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	startWorker(t, f, "one", t.TempDir())
	queued, err := f.submit(ctx, job("a", "echo out; echo err >&2; exit 3"))
	require.NoError(t, err)
	assert.True(t, queued)
	var text bytes.Buffer
	r, err := f.follow(ctx, "a", &text)
	require.NoError(t, err)
	assert.Equal(t, Failed, r.State)
	assert.Equal(t, 3, r.Code)
	assert.Equal(t, "one", r.Host)
	assert.Equal(t, "out\nerr\n", text.String())
}

// An id is one job, also long after the queue has forgotten it.
func TestSubmitTwice(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	count := filepath.Join(t.TempDir(), "count")
	j := job("a", "echo x >>"+count)
	for i := range 3 {
		queued, err := f.submit(ctx, j)
		require.NoError(t, err)
		assert.Equal(t, i == 0, queued)
	}
	other := j
	other.Args = []string{"true"}
	_, err := f.submit(ctx, other)
	require.ErrorIs(t, err, ErrConflict)
	startWorker(t, f, "one", t.TempDir())
	_, err = f.wait(ctx, "a")
	require.NoError(t, err)
	// The queue has it a second time, as from a submitter that died between two steps a day ago.
	_, err = f.js.Publish(ctx, workSubject+"linux", encode(j))
	require.NoError(t, err)
	until(t, func() bool {
		s, err := f.js.Stream(ctx, workStream)
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
	text, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, "x\n", string(text))
}

func TestRefused(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	for want, change := range map[error]func(*Job){
		ErrID:      func(j *Job) { j.ID = "a.b" },
		ErrLabel:   func(j *Job) { j.Label = "linux.*" },
		ErrTimeout: func(j *Job) { j.Timeout = time.Hour },
		ErrCommand: func(j *Job) { j.Args = nil },
	} {
		j := job("a", "true")
		change(&j)
		_, err := f.submit(ctx, j)
		require.ErrorIs(t, err, want)
	}
}

func TestCancel(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	require.NoError(t, f.cancel(ctx, "before"))
	_, err := f.submit(ctx, job("before", "sleep 1000"))
	require.NoError(t, err)
	startWorker(t, f, "one", t.TempDir())
	r, err := f.wait(ctx, "before")
	require.NoError(t, err)
	assert.Equal(t, Canceled, r.State)

	mark := filepath.Join(t.TempDir(), "runs")
	_, err = f.submit(ctx, job("runs", "echo >"+mark+"; sleep 1000"))
	require.NoError(t, err)
	until(t, func() bool { _, err := os.Stat(mark); return err == nil })
	require.NoError(t, f.cancel(ctx, "runs"))
	r, err = f.wait(ctx, "runs")
	require.NoError(t, err)
	assert.Equal(t, Canceled, r.State)
}

// A delivery while the job runs on the host does not start it again.
func TestRedeliveredWhileItRuns(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	dir := t.TempDir()
	count, goOn := filepath.Join(dir, "count"), filepath.Join(dir, "go")
	j := job("a", "echo x >>"+count+"; until [ -e "+goOn+" ]; do sleep 0.05; done")
	_, err := f.submit(ctx, j)
	require.NoError(t, err)
	w, _ := startWorker(t, f, "one", t.TempDir())
	until(t, func() bool { _, err := os.Stat(count); return err == nil })
	_, err = f.js.Publish(ctx, workSubject+"linux", encode(j)) // the other slot takes it
	require.NoError(t, err)
	until(t, func() bool {
		c, err := w.consumer(ctx, "linux", w.lease)
		return err == nil && c.CachedInfo().NumAckPending == 2
	})
	_, first, err := w.journal.begin("a", "")
	require.NoError(t, err)
	assert.False(t, first)
	require.NoError(t, os.WriteFile(goOn, nil, 0o600))
	_, err = f.wait(ctx, "a")
	require.NoError(t, err)
	text, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, "x\n", string(text))
}

// A worker that stops gives back what it runs, and another one runs it.
func TestStopGivesBack(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	dir := t.TempDir()
	_, err := f.submit(ctx, job("a", "mkdir "+dir+"/first || exit 0; sleep 1000"))
	require.NoError(t, err)
	_, stop := startWorker(t, f, "one", t.TempDir())
	until(t, func() bool { _, err := os.Stat(dir + "/first"); return err == nil })
	stop()
	startWorker(t, f, "two", t.TempDir())
	r, err := f.wait(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, Succeeded, r.State)
	assert.Equal(t, "two", r.Host)
}

func TestDrain(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	dir := t.TempDir()
	_, err := f.submit(ctx, job("a", "echo >"+dir+"/runs; until [ -e "+dir+"/go ]; do sleep 0.05; done"))
	require.NoError(t, err)
	w, err := newWorker(f, "one", t.TempDir(), map[string]int{"linux": 1})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- w.serve(ctx) }()
	until(t, func() bool { _, err := os.Stat(dir + "/runs"); return err == nil })
	_, err = f.nc.RequestWithContext(ctx, drainSubj+"one", nil)
	require.NoError(t, err)
	_, err = f.submit(ctx, job("b", "true"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/go", nil, 0o600))
	require.NoError(t, <-served)
	r, err := f.wait(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, Succeeded, r.State)
	found, _, err := f.get(ctx, "result.b", new(Result))
	require.NoError(t, err)
	assert.False(t, found)
}

// Slots are printed as they are passed.
func TestSlotsFlag(t *testing.T) {
	slots := slotsFlag{}
	for _, text := range []string{"linux=4", "linux.gpu"} {
		require.NoError(t, slots.Set(text))
	}
	assert.Equal(t, "linux=4,linux.gpu=1", slots.String())
	assert.Equal(t, "linux=2", slotsFlag{}.orDefault().String())
	assert.Error(t, slots.Set("linux=many"))
	assert.Empty(t, slotsFlag(nil).String(), "as flag calls it")
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir)
	require.NoError(t, err)
	_, err = openJournal(dir)
	require.Error(t, err, "a host has one worker")
	for _, id := range []string{"a", "b"} {
		_, first, err := j.begin(id, "reply")
		require.NoError(t, err)
		assert.True(t, first)
	}
	for range compactAfter + 10 {
		require.NoError(t, j.put(record{ID: "c", Settled: true}))
	}
	require.NoError(t, j.put(record{ID: "b", Result: &Result{ID: "b", Code: 7}}))
	_, err = j.file.WriteString(`{"id":"torn`)
	require.NoError(t, err)
	require.NoError(t, j.close())
	text, err := os.ReadFile(j.path)
	require.NoError(t, err)
	assert.Less(t, strings.Count(string(text), "\n"), compactAfter)

	j, err = openJournal(dir)
	require.NoError(t, err)
	require.Len(t, j.left, 2)
	assert.Equal(t, 7, j.left["b"].Result.Code)
	require.NoError(t, j.close())
}

// Gaps are told, and the log has all.
func TestGap(t *testing.T) {
	f := newFleet(t)
	sub, err := f.nc.SubscribeSync(outSubject + "a")
	require.NoError(t, err)
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer file.Close()
	out := &output{file: file, nc: f.nc, subject: outSubject + "a", who: "one.1"}
	var text bytes.Buffer
	var s seam
	for i, part := range []string{"first ", "lost ", "last"} {
		_, err := out.Write([]byte(part))
		require.NoError(t, err)
		m, err := sub.NextMsg(within)
		require.NoError(t, err)
		if i != 1 {
			s.join(&text, m)
		}
	}
	assert.Equal(t, "first \n[5 bytes not seen live]\nlast", text.String())
}
