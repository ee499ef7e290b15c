package main

import (
	"bufio"
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPages(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	startWorker(t, f, "one", t.TempDir())
	_, err := f.submit(ctx, job("a", "echo '<b>out</b>'"))
	require.NoError(t, err)
	s := httptest.NewServer(f.pages())
	defer s.Close()
	res, err := s.Client().Get(s.URL + "/log/a") // follows it to its end
	require.NoError(t, err)
	defer res.Body.Close()
	text := new(strings.Builder)
	_, err = bufio.NewReader(res.Body).WriteTo(text)
	require.NoError(t, err)
	assert.Equal(t, "<b>out</b>\n", text.String())
	assert.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))

	events, err := s.Client().Get(s.URL + "/events")
	require.NoError(t, err)
	defer events.Body.Close()
	lines := bufio.NewReader(events.Body)
	until(t, func() bool {
		line, err := lines.ReadString('\n')
		return err != nil || strings.Contains(line, `"state":"succeeded"`) && strings.Contains(line, `"host":"one"`)
	})
}

// chromium returns a browser that needs no display.
func chromium(t *testing.T) string {
	for _, name := range []string{"chromium-headless-shell", "headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium on PATH")
	return ""
}

// browse opens the page.
func browse(t *testing.T, f *fleet) context.Context {
	t.Helper()
	path := chromium(t)
	s := httptest.NewServer(f.pages())
	t.Cleanup(s.Close)
	alloc, stop := chromedp.NewExecAllocator(deadline(t), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(within))...)
	t.Cleanup(stop)
	browser, end := chromedp.NewContext(alloc)
	t.Cleanup(end)
	require.NoError(t, chromedp.Do(browser, chromedp.EmulateViewport(900, 420), chromedp.Navigate(s.URL)))
	return browser
}

// see waits until the page shows a job in a state.
func see(t *testing.T, browser context.Context, id, state string) {
	t.Helper()
	require.NoError(t, chromedp.Do(browser, chromedp.WaitVisible(chromedp.CSS("#job-"+id+" td."+state))))
}

// The page shows a job from the queue to its end, and the node, without being loaded again. What a job is called does
// not become a part of the page.
func TestPageInBrowser(t *testing.T) {
	f, ctx := newFleet(t), deadline(t)
	browser := browse(t, f)
	goOn := t.TempDir() + "/go"
	_, err := f.submit(ctx, job("a", "until [ -e "+goOn+" ]; do sleep 0.05; done # <img src=x id=evil>"))
	require.NoError(t, err)
	see(t, browser, "a", "queued")
	startWorker(t, f, "one", t.TempDir())
	see(t, browser, "a", "running")
	require.NoError(t, os.WriteFile(goOn, nil, 0o600))
	see(t, browser, "a", "succeeded")
	require.NoError(t, chromedp.Do(browser, chromedp.WaitVisible(chromedp.CSS("#nodes tr"))))
	nodes, err := chromedp.Run(browser, chromedp.Text(chromedp.ID("nodes")))
	require.NoError(t, err)
	assert.Contains(t, nodes, "linux × 2")
	evil, err := chromedp.Run(browser, chromedp.Evaluate[int](`document.querySelectorAll("#evil").length`))
	require.NoError(t, err)
	assert.Zero(t, evil)
	require.NoError(t, chromedp.Cancel(browser))
}

var pictureOf = flag.String("picture", "", "take a picture of the page, and write it to `file`")

// TestPicture takes the picture that the gallery shows:
//
//	go test . -run Picture -picture ../../docs/fleet.png
func TestPicture(t *testing.T) {
	if *pictureOf == "" {
		t.Skip("-picture is not set")
	}
	f, ctx := newFleet(t), deadline(t)
	browser := browse(t, f)
	for _, host := range []string{"one", "two"} {
		startWorker(t, f, host, t.TempDir())
	}
	show := func(id, label, script, state string) {
		j := job(id, script)
		j.Label = label
		_, err := f.submit(ctx, j)
		require.NoError(t, err)
		see(t, browser, id, state)
	}
	show("build", "linux", "echo built", "succeeded")
	show("deploy", "linux", "echo 'no route to host' >&2; exit 3", "failed")
	show("backup", "linux", "sleep 600", "running")
	show("train", "linux.gpu", "echo trained", "queued")
	until(t, func() bool { // nodes are told of at intervals
		nodes, err := chromedp.Run(browser, chromedp.Text(chromedp.ID("nodes")))
		require.NoError(t, err)
		return strings.Count(nodes, "linux") == 2 && strings.Contains(nodes, "\t1\t")
	})
	image, err := chromedp.Run(browser, chromedp.CaptureScreenshot())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(*pictureOf, image, 0o644))
	require.NoError(t, f.cancel(ctx, "backup"))
	see(t, browser, "backup", "canceled")
	require.NoError(t, chromedp.Cancel(browser))
}
