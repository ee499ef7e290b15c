package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const output = `
== Linux 5.10 ==
  on 2026-01-02
in force: kernel=5.10.0-1-cloud-amd64 slice=false pidfd=true
  /internal-kernels.test: ok, 1 s
  3 passed, 0 failed, 2 skipped
  skipped: TestA: needs the program a|b
  skipped: TestB: needs the program a|b

== Linux 6.12 ==
  on 2026-01-03
in force: kernel=6.12.1-cloud-amd64 slice=true pidfd=true
  3 passed, 0 failed, 0 skipped
`

const rest = `
== Linux 6.12 ==
  on 2026-01-03
  /root.test: ok, 2 s
  2 passed, 0 failed, 1 skipped
  skipped: TestA: needs the program a|b
`

const table = "before\n" + begin + notice + `| in force | Linux 5.10 | Linux 6.12 |
| --- | --- | --- |
` + "| `slice` | no | yes |\n| `pidfd` | yes | yes |" + `

| tests, with their parts | Linux 5.10 | Linux 6.12 |
| --- | --- | --- |
| kernel | 5.10.0-1-cloud-amd64 | 6.12.1-cloud-amd64 |
| on | 2026-01-02 | 2026-01-03 |
| outcome | 3 passed, 0 failed, 2 skipped | 5 passed, 0 failed, 1 skipped |
` + "| of | `internal-kernels` | `root` |" + `

| skipped, as the test says why | Linux 5.10 | Linux 6.12 |
| --- | --- | --- |
| needs the program a\|b | 2 | 1 |
` + end + "after\n"

func TestTable(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc")
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	put("doc", "before\n"+begin+"old\n"+end+"after\n")
	require.NoError(t, write(doc, []string{put("out", output), put("rest", rest)}))
	written, err := os.ReadFile(doc)
	require.NoError(t, err)
	assert.Equal(t, table, string(written))

	for what, text := range map[string]string{
		"failed":             output + "FAILED: Linux 6.1: the machine ended with 1\n",
		"no kernel":          "",
		"twice":              output + rest + rest,
		"no verdict":         "== Linux 6.1 ==\n  on 2026-01-03\nin force: kernel=6.1 slice=true\n",
		"of another version": output + "== Linux 6.1 ==\n  on 2026-01-03\nin force: kernel=6.1 slice=true\n  5 passed, 0 failed, 0 skipped\n",
	} {
		assert.Error(t, write(doc, []string{put("out", text)}), what)
	}
	assert.Error(t, write(put("empty", ""), []string{put("out", output)}))
	after, err := os.ReadFile(doc)
	require.NoError(t, err)
	assert.Equal(t, written, after, "what is refused changes nothing")
}
