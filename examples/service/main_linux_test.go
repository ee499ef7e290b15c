package main

import (
	"bufio"
	"bytes"
	"context"
	"image"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asService makes this test binary the program.
const asService = "SAFEEXEC_TEST_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(asService) != "" {
		os.Unsetenv(asService)
		main()
		return
	}
	testproc.Main(m, testproc.Idle(http.DefaultClient.CloseIdleConnections))
}

// A program is a service that runs.
type program struct {
	cmd          *exec.Cmd
	api, ops     string
	shuttingDown chan struct{}
}

func start(t *testing.T, path string, stdout *os.File, args ...string) *program {
	t.Helper()
	args = append([]string{"-addr", "127.0.0.1:0", "-admin", "127.0.0.1:0", "-timeout", "5m"}, args...)
	p := &program{cmd: exec.CommandContext(testproc.Deadline(t), os.Args[0], args...), shuttingDown: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "PATH="+path, asService+"=1", "GORACE=atexit_sleep_ms=0")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stderr = w
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	require.NoError(t, p.cmd.Start())
	w.Close()
	log := bufio.NewScanner(r)
	addr := regexp.MustCompile(`msg=listening as=(\w+) addr=(\S+)`)
	for p.ops == "" { // the last that it says
		require.True(t, log.Scan(), "it ended")
		switch m := addr.FindStringSubmatch(log.Text()); {
		case m == nil:
		case m[1] == "service":
			p.api = "http://" + m[2]
		default:
			p.ops = "http://" + m[2]
		}
	}
	var read sync.WaitGroup
	read.Go(func() {
		defer r.Close()
		for log.Scan() {
			if strings.Contains(log.Text(), `msg="shutting down"`) {
				close(p.shuttingDown)
			}
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		read.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	return p
}

func get(ctx context.Context, url string) (code int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all), err
}

func must(t *testing.T, url string) (int, string) {
	t.Helper()
	code, body, err := get(testproc.Deadline(t), url)
	require.NoError(t, err)
	return code, body
}

// held returns a PATH with a git that says that it runs, and waits for a word, through two FIFOs.
func held(t *testing.T) (path string, runs, release *os.File) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"runs", "release"} {
		require.NoError(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
	}
	script := "#!/bin/sh\necho runs >" + dir + "/runs\nread word <" + dir + "/release\necho $word\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o700))
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	return dir + ":" + os.Getenv("PATH"), open("runs"), open("release")
}

// A request beyond the limit is refused, a client that goes away takes its command along, and a request
// that runs at SIGTERM is answered.
func TestLimitCancelShutdown(t *testing.T) {
	path, runs, release := held(t)
	p := start(t, path, nil, "-limit", "1", t.TempDir())
	code, _ := must(t, p.api+"/log")
	assert.Equal(t, http.StatusBadRequest, code)

	ctx, cancel := context.WithCancel(testproc.Deadline(t))
	gone := make(chan error)
	go func() {
		_, _, err := get(ctx, p.api+"/log?path=f")
		gone <- err
	}()
	assert.Equal(t, "runs", testproc.ReadLine(t, runs))
	code, _ = must(t, p.api+"/log?path=f")
	assert.Equal(t, http.StatusServiceUnavailable, code)
	cancel()
	assert.ErrorIs(t, <-gone, context.Canceled)
	testproc.Wait(t, func() bool {
		_, body := must(t, p.ops+"/metrics")
		return strings.Contains(body, `safeexec_runs_total{cause="canceled",command="git"} 1`)
	})

	type answer struct {
		code int
		body string
		err  error
	}
	got := make(chan answer)
	go func() {
		for { // the place of the one before is free a moment after it was counted
			code, body, err := get(testproc.Deadline(t), p.api+"/log?path=f")
			if code != http.StatusServiceUnavailable {
				got <- answer{code, body, err}
				return
			}
		}
	}()
	assert.Equal(t, "runs", testproc.ReadLine(t, runs))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.shuttingDown
	_, err := release.WriteString("hello\n")
	require.NoError(t, err)
	assert.Equal(t, answer{200, "hello\n", nil}, <-got)
	require.NoError(t, p.cmd.Wait())
}

// TestLoad has 8 clients, twice as many as the limit, and a real git.
func TestLoad(t *testing.T) {
	testproc.HasProgram(t, "git")
	repository := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "."},
		{"-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "-m", "the first"},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(repository, "--file"), []byte("x"), 0o600))
		out, err := exec.Command("git", append([]string{"-C", repository}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	p := start(t, os.Getenv("PATH"), nil, repository)
	var answered, refused atomic.Int32
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				switch code, body, err := get(testproc.Deadline(t), p.api+"/log?path=--file"); {
				case !assert.NoError(t, err):
				case code == http.StatusServiceUnavailable:
					refused.Add(1)
				case assert.Equal(t, http.StatusOK, code, body):
					assert.Contains(t, body, " the first\n")
					answered.Add(1)
				}
			}
		})
	}
	clients.Wait()
	t.Logf("%d requests answered, %d refused", answered.Load(), refused.Load())
	assert.EqualValues(t, 8*20, answered.Load()+refused.Load())
	assert.Positive(t, answered.Load())
	_, metrics := must(t, p.ops+"/metrics")
	assert.Contains(t, metrics, `safeexec_runs_in_progress{command="git"} 0`)
	code, body := must(t, p.ops+"/debug/pprof/goroutine?debug=1")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, "goroutine profile")
}

// TestThumbnail has a real ImageMagick.
func TestThumbnail(t *testing.T) {
	if version, _ := exec.Command("convert", "-version").Output(); !strings.Contains(string(version), "ImageMagick") {
		t.Skip("ImageMagick is not installed")
	}
	p := start(t, os.Getenv("PATH"), nil, t.TempDir())
	post := func(body io.Reader) (int, []byte) {
		req, err := http.NewRequestWithContext(testproc.Deadline(t), http.MethodPost, p.api+"/thumbnail", body)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, all
	}
	var large bytes.Buffer
	require.NoError(t, png.Encode(&large, image.NewGray(image.Rect(0, 0, 800, 400))))
	code, small := post(&large)
	require.Equal(t, http.StatusOK, code, string(small))
	got, err := png.DecodeConfig(bytes.NewReader(small))
	require.NoError(t, err)
	assert.Equal(t, []int{200, 100}, []int{got.Width, got.Height})

	code, _ = post(strings.NewReader("no image"))
	assert.Equal(t, http.StatusInternalServerError, code)
	_, metrics := must(t, p.ops+"/metrics")
	assert.Contains(t, metrics, `safeexec_runs_total{cause="failed",command="convert"} 1`)

	plain := png.Encoder{CompressionLevel: png.NoCompression}
	require.NoError(t, plain.Encode(&large, image.NewGray(image.Rect(0, 0, 5000, 5000))))
	// No more than the service reads before it refuses: it closes the connection, and to write on may fail.
	code, _ = post(bytes.NewReader(large.Bytes()[:inputLimit+1]))
	assert.Equal(t, http.StatusRequestEntityTooLarge, code)
}

// A service whose standard output has no reader any more is not healthy.
func TestHealth(t *testing.T) {
	p := start(t, os.Getenv("PATH"), nil, t.TempDir())
	code, body := must(t, p.ops+"/healthz")
	assert.Equal(t, http.StatusOK, code, body)

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	p = start(t, os.Getenv("PATH"), w, t.TempDir())
	r.Close()
	code, body = must(t, p.ops+"/healthz")
	assert.Equal(t, http.StatusInternalServerError, code)
	assert.NotEmpty(t, body)
}
