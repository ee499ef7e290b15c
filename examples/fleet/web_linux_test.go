package main

import (
	"bufio"
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

// The page shows a job from the queue to its end, and the node, without being loaded again. What a job is called does
// not become a part of the page.
func TestPageInBrowser(t *testing.T) {
	path := chromium(t)
	f, ctx := newFleet(t), deadline(t)
	s := httptest.NewServer(f.pages())
	defer s.Close()
	alloc, stop := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(within))...)
	defer stop()
	browser, end := chromedp.NewContext(alloc)
	defer end()
	goOn := t.TempDir() + "/go"
	_, err := f.submit(ctx, job("a", "until [ -e "+goOn+" ]; do sleep 0.05; done # <img src=x id=evil>"))
	require.NoError(t, err)
	see := func(state string) {
		t.Helper()
		require.NoError(t, chromedp.Do(browser, chromedp.WaitVisible(chromedp.CSS("#job-a td."+state))))
	}
	require.NoError(t, chromedp.Do(browser, chromedp.Navigate(s.URL)))
	see("queued")
	startWorker(t, f, "one", t.TempDir())
	see("running")
	require.NoError(t, os.WriteFile(goOn, nil, 0o600))
	see("succeeded")
	require.NoError(t, chromedp.Do(browser, chromedp.WaitVisible(chromedp.CSS("#nodes tr"))))
	nodes, err := chromedp.Run(browser, chromedp.Text(chromedp.ID("nodes")))
	require.NoError(t, err)
	assert.Contains(t, nodes, "linux × 2")
	evil, err := chromedp.Run(browser, chromedp.Evaluate[int](`document.querySelectorAll("#evil").length`))
	require.NoError(t, err)
	assert.Zero(t, evil)
	require.NoError(t, chromedp.Cancel(browser))
}
