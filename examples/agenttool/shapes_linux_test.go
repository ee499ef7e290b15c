package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/examples/agenttool/shell"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// What the message says.
const (
	succeeded = `^bash succeeded in `
	left      = `^The shell has ended: .*0.* left in the background runs`
	goesOn    = `^bash has run for .* and has not ended`
)

// shapes are commands that hang tools which wait for the end of the output, ask on a hidden terminal, or
// leave processes behind.
var shapes = []struct{ name, command, message, output string }{
	{"plain", `echo hi`, succeeded, `^hi\n$`},
	{"background", `sleep 600 & echo hi`, left, `^hi\n$`},
	{"nohup", `nohup sleep 600 & echo hi`, left, `hi\n`},
	{"nohup redirected", `nohup sleep 600 >/dev/null 2>&1 & echo hi`, left, `^hi\n$`},
	{"setsid", `setsid sleep 600 & echo hi`, left, `^hi\n$`},
	{"daemon", `(setsid sh -c 'sleep 600; :' &); echo hi`, left, `^hi\n$`},
	{"background and failure", `sleep 600 & exit 3`, `^The shell has ended: .*3.* left in the background`, `^$`},
	{"server behind scripts", `sh -c 'sh -c "echo listening; sleep 600; :"; :'`, goesOn, `^listening\n$`},
	{"process substitution read", `cat <(echo hi)`, succeeded, `^hi\n$`},
	{"process substitution left", `echo hi | tee >(exec sleep 600)`, left, `^hi\n$`},
	{"coprocess", `coproc cat; echo hi`, succeeded, `^hi\n$`},
	{"here-document", "cat <<EOF\nhi\nEOF", succeeded, `^hi\n$`},
	{"here-document without end", "cat <<EOF\nhi", succeeded, `hi\n$`},
	{"yes", `ulimit -f 1048576; yes`, goesOn + `|^bash was killed by a signal|^bash failed with exit status`, `y\ny\n`},
	{"yes cut off", `yes | head -n 2`, succeeded, `^y\ny\n$`},
	{"read", `read x; echo "[$x]"`, succeeded, `^\[\]\n$`},
	{"read from terminal", `read x </dev/tty || echo no terminal`, succeeded, `no terminal\n$`},
	{"cat", `cat; echo hi`, succeeded, `^hi\n$`},
	{"ssh to a silent port", `ssh -F none -o BatchMode=no -p $SILENT 127.0.0.1 true`, goesOn, `^$`},
	{"git asks for a password", `git clone http://127.0.0.1:$ASKS/x.git`, `^bash failed with exit status 128`, `terminal prompts disabled`},
	{"pager", `less /etc/passwd`, succeeded, `root:`},
	{"git with a pager", `git init -q r; cd r; git -c user.name=a -c user.email=b commit -q --allow-empty -m hi; git -c core.pager=less log --format=%s`, succeeded, `hi\n$`},
	{"git with an editor", `git init -q s; cd s; env -u EDITOR -u VISUAL -u GIT_EDITOR git -c user.name=a -c user.email=b commit --allow-empty`, `^bash failed with exit status 1`, `[Tt]erminal is dumb`},
	{"editor", `ed /etc/hostname; echo "status $?"`, succeeded, `status 0\n$`},
	{"deaf", `trap '' TERM HUP INT; echo deaf; while :; do sleep 600; done`, goesOn, `^deaf\n$`},
	{"stopped", `echo hi; kill -STOP $$`, goesOn, `^hi\n$`},
	{"closed output", `echo hi; exec >&- 2>&-; exec sleep 600`, goesOn, `^hi\n$`},
	{"FIFO without writer", `mkfifo f; cat f`, goesOn, `^$`},
	{"tail -f", `echo hi >g; tail -f g`, goesOn, `^hi\n$`},
	{"killed", `kill -KILL $$`, `^bash was killed by a signal \(killed\)`, `^$`},
	{"not found", `no-such-program`, `^bash failed with exit status 127`, `not found`},
	{"syntax error", `echo "hi`, `^bash failed with exit status 2`, `unexpected EOF`},
	{"long", `seq 100000`, succeeded, `^1\n2\n[^[]*\n\[\d+ bytes are left out here\]\n\n[^[]*\n100000\n$`},
	{"not text", `printf 'a\377\000b'`, succeeded, "^a\uFFFDb$"},
}

// TestShapes runs them with a time to yield that is so short that even a plain command may be told of as
// a job first, on a machine that is busy: then the tool output tells the rest. No call waits for a
// command, which takes ten minutes.
func TestShapes(t *testing.T) {
	for _, name := range []string{"ssh", "git", "less", "ed", "seq", "setsid"} {
		testproc.HasProgram(t, name)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	asks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer asks.Close()
	_, asksPort, _ := net.SplitHostPort(asks.Listener.Addr().String())
	_, silentPort, _ := net.SplitHostPort(silent.Addr().String())
	c := connect(t, []string{"ASKS=" + asksPort, "SILENT=" + silentPort, "LC_ALL=C"},
		"-dir", store(t), "-work", t.TempDir(), "-yield", "300ms")

	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			token := fmt.Sprintf("shape-%d-%d", os.Getpid(), i)
			r := c.call(t, "run", map[string]any{"command": "export SHAPE=" + token + "\n" + shape.command})
			for r.Job != "" && !matches(shape.message, shape.output, r) {
				require.NoError(t, testproc.Deadline(t).Err())
				r = c.call(t, "output", map[string]any{"job": r.Job})
			}
			assert.Regexp(t, shape.message, r.Message)
			assert.Regexp(t, shape.output, r.Output)
			assert.FileExists(t, r.File)
			if r.Job != "" {
				killed := c.call(t, "kill", map[string]any{"job": r.Job})
				assert.False(t, killed.Failed, killed.Message)
			}
			// What has just been signaled may still be there for a while.
			testproc.Wait(t, func() bool { return len(having(t, token)) == 0 })
		})
	}
}

func matches(message, output string, r shell.Reply) bool {
	return assert.Regexp(new(silentT), message, r.Message) && assert.Regexp(new(silentT), output, r.Output)
}

// silentT lets an assertion be a question.
type silentT struct{}

func (*silentT) Errorf(string, ...any) {}

// having returns the processes that have the token among their arguments or in their environment.
func having(t *testing.T, token string) (pids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[1-9]*")
	require.NoError(t, err)
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		env, _ := os.ReadFile(dir + "/environ")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if bytes.Contains(append(args, env...), []byte(token)) && !testproc.Dead(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
