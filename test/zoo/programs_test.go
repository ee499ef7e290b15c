//go:build linux

package zoo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// daemons are programs as they are found on servers. DIR is a directory of the test's own.
var daemons = []struct {
	program string
	files   map[string]string
	start   string // puts it into the background
	up      string // succeeds once it stands
}{
	{program: "ssh-agent", start: `ssh-agent -a DIR/agent >/dev/null`, up: `test -S DIR/agent`},
	{program: "tail", start: `setsid tail -f /dev/null &`, up: `true`},
	{program: "timeout", start: `timeout 600 sh -c 'sleep 600 & sleep 600' &`, up: `true`},
	{program: "start-stop-daemon", up: `test -s DIR/pid`,
		start: `start-stop-daemon -S -q -b -m -p DIR/pid -x "$(command -v sleep)" -- 600`},
	// Without SHELL it starts what passwd says, which for an ordinary user may be nologin.
	{program: "tmux", start: `SHELL=/bin/sh TERM=screen tmux -S DIR/tmux -f /dev/null new -d 'sleep 600 & sleep 600'`,
		up: `tmux -S DIR/tmux has-session`},
	{program: "gpg-agent", start: `gpg-agent --homedir DIR --daemon >/dev/null 2>&1`,
		up: `gpg-connect-agent --homedir DIR --no-autostart /bye >/dev/null 2>&1`},
	{program: "redis-server", up: `test -s DIR/pid -a -S DIR/redis`,
		start: `redis-server --daemonize yes --port 0 --unixsocket DIR/redis --save '' --dir DIR --logfile DIR/log --pidfile DIR/pid >/dev/null`},
	{program: "nginx", start: `nginx -p DIR -c DIR/conf -e DIR/err`, up: `test -s DIR/pid -a -S DIR/http`,
		files: map[string]string{"conf": `daemon on; worker_processes 2; pid DIR/pid; error_log DIR/err;
			events {}
			http { access_log off; server { listen unix:DIR/http; }
				client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c;
				uwsgi_temp_path DIR/d; scgi_temp_path DIR/e; }`}},
	{program: "expect", up: `test -s DIR/up`,
		files: map[string]string{"script": `set timeout 600
			spawn -ignore HUP sh -c "trap '' HUP TERM; echo up >DIR/up; sleep 600 & sleep 600"
			expect eof`},
		start: `expect DIR/script >/dev/null 2>&1 &`},
	{program: "parallel", up: `test "$(ls DIR/up | wc -l)" = 4`, files: map[string]string{"up/.keep": ""},
		start: `HOME=DIR PARALLEL_HOME=DIR parallel --will-cite -j4 'touch DIR/up/{}; sleep 600' ::: 1 2 3 4 2>/dev/null &`},
	// What it has to collect are pipes that nobody writes to.
	{program: "git", up: `test -e DIR/repo/.git/gc.pid`,
		start: `git init -q DIR/repo; cd DIR/repo; git config gc.auto 1; mkdir -p .git/objects/17
			for i in 1 2 3; do mkfifo .git/objects/17/0000000000000000000000000000000000000$i; done
			git -c gc.autoDetach=true gc --auto -q`},
}

// TestZooPrograms runs daemons, and others that put themselves at a distance from their starter.
func TestZooPrograms(t *testing.T) {
	skipShort(t)
	onEachRung(t, func(t *testing.T, r rung) {
		for i, d := range daemons {
			for _, w := range r.sharesOf(i) {
				t.Run(d.program+"/"+string(w), func(t *testing.T) {
					t.Parallel()
					testproc.HasProgram(t, d.program)
					dir, err := os.MkdirTemp("", "zoo-") //nolint:usetesting // short: names of sockets are
					require.NoError(t, err)
					t.Cleanup(func() { os.RemoveAll(dir) })
					in := strings.NewReplacer("DIR", dir)
					for name, content := range d.files {
						path := filepath.Join(dir, name)
						require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
						require.NoError(t, os.WriteFile(path, []byte(in.Replace(content)), 0o600))
					}
					script := in.Replace(d.start) + "\nuntil " + in.Replace(d.up) + "; do sleep 0.02; done"
					cmd := exec.Command("sh", "-c", script+ends["sh"][w])
					realProgram{name: d.program, cmd: cmd, grace: 300 * time.Millisecond}.run(t, r, w)
				})
			}
		}
	})
}
