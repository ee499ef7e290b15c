// Package examples holds the gallery of the examples to what they print.
package examples

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

var update = flag.String("update", "", "run what the gallery shows where it `matches`, and write down what comes")

const gallery = "../docs/examples.md"

// transcript is a block of the gallery: commands behind "$ ", and what they print.
var transcript = regexp.MustCompile("(?s)```console\n(.*?)```\n")

// varying is what differs each time, and what stands for it.
var varying = []struct {
	of   *regexp.Regexp
	that string
}{
	{regexp.MustCompile(`(/tmp|/var/tmp)/[\w./-]+`), "/tmp/…"},
	{regexp.MustCompile(`20\d\d([/-])\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`), "2026${1}11${1}29 12:00:00"},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// commands returns what a shell runs for a block.
func commands(block string) (script string) {
	for line := range strings.Lines(block) {
		if after, ok := strings.CutPrefix(line, "$ "); ok {
			script += after
		}
	}
	return script
}

// TestGallery makes sure that each block has commands and what they print. To have it printed again:
//
//	go test ./examples -run Gallery -v -update .
//
// Each block is run at the root of the repository, and all that it starts is ended with it.
func TestGallery(t *testing.T) {
	text, err := os.ReadFile(gallery)
	require.NoError(t, err)
	found := 0
	text = transcript.ReplaceAllFunc(text, func(block []byte) []byte {
		found++
		inside := string(transcript.FindSubmatch(block)[1])
		script := commands(inside)
		assert.NotEmpty(t, script, inside)
		if *update != "" && regexp.MustCompile(*update).MatchString(script) {
			inside = again(t, script)
		}
		assert.Greater(t, len(inside), len(script)+2*strings.Count(script, "\n"), "%s prints nothing", script)
		return []byte("```console\n" + inside + "```\n")
	})
	assert.Positive(t, found)
	if *update != "" {
		require.NoError(t, os.WriteFile(gallery, text, 0o644))
	}
}

// again runs the lines of a script and returns them with what they print.
func again(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", "export NO_COLOR=1\n"+script)
	cmd.Dir = ".."
	res, err := safeexec.Run(t.Context(), cmd, safeexec.WithTimeout(8*time.Minute), safeexec.WithMergedOutput())
	t.Logf("%s\t%v: %s", script, res.Times.Total.Round(time.Second), res.Describe(err))
	out := res.Stdout.String() + "\n"
	for _, v := range varying {
		out = v.of.ReplaceAllString(out, v.that)
	}
	return "$ " + strings.ReplaceAll(strings.TrimSuffix(script, "\n"), "\n", "\n$ ") + "\n" + out
}
