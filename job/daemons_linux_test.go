package job

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// TestDaemons takes real ones through their lives: started, ready, restarted, left by their
// program, found by another, stopped, nothing left, port free.
func TestDaemons(t *testing.T) {
	tests := []struct {
		program string
		port    bool
		args    func(dir, port string) []string
		ready   func(dir string) []Condition // beside the port
	}{
		{"redis-server", true, func(dir, port string) []string {
			return []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "''"}
		}, nil},
		{"redis-server", true, func(dir, port string) []string { // into the background, with a title of its own
			return []string{"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "''", "--daemonize", "yes"}
		}, nil},
		{"nginx", true, func(dir, port string) []string {
			conf := fmt.Sprintf(`pid %[1]s/pid; error_log stderr; events {} http { access_log off;
				client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
				uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; server { listen 127.0.0.1:%[2]s; } }`, dir, port)
			path := filepath.Join(dir, "conf")
			_ = os.WriteFile(path, []byte(conf), 0o644)
			return []string{"-c", path, "-e", "stderr"} // a daemon: master and workers
		}, nil},
		{"python3", true, func(dir, port string) []string {
			return []string{"-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, port}
		}, nil},
		{"ssh-agent", false, func(dir, _ string) []string { return []string{"-a", filepath.Join(dir, "agent")} },
			func(dir string) []Condition { return []Condition{LogLine(regexp.MustCompile("^echo Agent pid"))} }},
	}
	for _, tt := range tests {
		t.Run(tt.program, func(t *testing.T) {
			path := testproc.HasProgram(t, tt.program)
			work, dir, port := t.TempDir(), t.TempDir(), freePort(t)
			require.NoError(t, os.Chmod(work, 0o755))
			var conds []Condition
			addr := net.JoinHostPort("127.0.0.1", port)
			if tt.port {
				conds = append(conds, Port(addr))
			}
			if tt.ready != nil {
				conds = append(conds, tt.ready(work)...)
			}
			first := startHost(t, dir)
			fmt.Fprintln(first.in, "d exec "+strings.Join(append([]string{path}, tt.args(work, port)...), " "))
			require.Equal(t, "started d", first.line(t))
			if tt.port {
				testproc.Wait(t, func() bool { return accepts(deadline(t), addr) })
			}
			first.kill()

			s := open(t, dir)
			found := adoptOne(t, s)
			require.Equal(t, Running, found.Status.State)
			j := found.Job
			if tt.port {
				require.True(t, accepts(deadline(t), addr), "it outlives its program")
			}
			_, err := j.Stop(deadline(t))
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(filepath.Join(work, "agent")))
			require.NoError(t, j.Restart(deadline(t), Ready(time.Minute, conds...)))
			st := status(t, j)
			assert.Equal(t, Running, st.State)
			assert.Equal(t, 2, st.Run)
			r, err := read(j.dir())
			require.NoError(t, err)
			_, err = j.Stop(deadline(t))
			require.NoError(t, err)
			left, err := census(r.Trace)
			require.NoError(t, err)
			assert.Empty(t, left)
			if tt.port {
				l, err := net.Listen("tcp", addr)
				require.NoError(t, err, "the port is free")
				l.Close()
			}
		})
	}
}
