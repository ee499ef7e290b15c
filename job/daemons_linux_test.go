package job

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// serverVariable makes the test binary a server at that address, which says that it is ready, and by a
// STATUS= how many have connected.
const serverVariable = "SAFEEXEC_TEST_JOB_SERVER"

func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	notify := func(message string) error {
		conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte(message))
		return err
	}
	if err := notify("READY=1\nSTATUS=nobody yet"); err != nil {
		return err
	}
	for n := 1; ; n++ {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		conn.Close()
		if err := notify(fmt.Sprintf("STATUS=%d connected", n)); err != nil {
			return err
		}
	}
}

// TestServerOfOurs has a Go server restarted, whose port has to be free by then, and adopted, after
// which its messages are heard.
func TestServerOfOurs(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	dir, addr := t.TempDir(), net.JoinHostPort(loopback(), freePort(t))
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serverVariable+"="+addr)
	first := open(t, dir)
	ready := Ready(time.Minute, Notify())
	j, err := first.Start(deadline(t), cmd, Name("server"), Endless(), ready)
	require.NoError(t, err)
	require.NoError(t, j.Restart(deadline(t), ready))
	st := status(t, j)
	assert.True(t, st.Ready)
	assert.Equal(t, "nobody yet", st.Text)
	first.Close()
	assert.False(t, status(t, j).Kept)

	found := adoptOne(t, open(t, dir))
	require.Equal(t, Running, found.Status.State)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	conn.Close()
	testproc.Wait(t, func() bool { return status(t, found.Job).Text == "1 connected" })
	_, err = found.Job.Stop(deadline(t))
	require.NoError(t, err)
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err, "the port is free")
	l.Close()
}

// loopback returns an address that no other process of this machine uses, so that nobody takes a port
// of it between two of its listeners.
func loopback() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
}

// freePort returns a port of that address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(loopback(), "0"))
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
			return []string{"--port", port, "--bind", loopback(), "--dir", dir, "--save", "''"}
		}, nil},
		{"redis-server", true, func(dir, port string) []string { // into the background, with a title of its own
			return []string{"--port", port, "--bind", loopback(), "--dir", dir, "--save", "''", "--daemonize", "yes"}
		}, nil},
		{"nginx", true, func(dir, port string) []string {
			conf := fmt.Sprintf(`pid %[1]s/pid; error_log stderr; events {} http { access_log off;
				client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
				uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; server { listen %[3]s:%[2]s; } }`, dir, port, loopback())
			path := filepath.Join(dir, "conf")
			_ = os.WriteFile(path, []byte(conf), 0o644)
			return []string{"-c", path, "-e", "stderr"} // a daemon: master and workers
		}, nil},
		{"python3", true, func(dir, port string) []string {
			return []string{"-u", "-m", "http.server", "--bind", loopback(), "--directory", dir, port}
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
			addr := net.JoinHostPort(loopback(), port)
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
				testproc.Wait(t, func() bool { return accepts(deadline(t), addr) }) // it outlives its program
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

// TestPostgres has a server that takes a user of its own, makes its children leave the session, and
// must not be started twice in its directory.
func TestPostgres(t *testing.T) {
	if !testproc.Soaking() {
		t.Skip("takes long to set up: SAFEEXEC_TEST_SOAK=1")
	}
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bin) == 0 {
		t.Skip("postgres is not installed")
	}
	work, dir, port := t.TempDir(), t.TempDir(), freePort(t)
	var as *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		require.NoError(t, os.Chown(work, 65534, 65534))
		for above := filepath.Dir(work); len(above) > len(os.TempDir()); above = filepath.Dir(above) {
			require.NoError(t, os.Chmod(above, 0o755))
		}
	}
	data := filepath.Join(work, "data")
	initdb := exec.Command(filepath.Join(bin[0], "initdb"), "-D", data, "-N", "-U", "test", "--locale=C")
	initdb.SysProcAttr, initdb.Dir = as, work
	out, err := initdb.CombinedOutput()
	require.NoError(t, err, string(out))

	cmd := exec.Command(filepath.Join(bin[0], "postgres"), "-D", data, "-p", port, "-k", work, "-h", loopback())
	cmd.SysProcAttr, cmd.Dir = as, work
	first := open(t, dir)
	ready := Ready(time.Minute, LogLine(regexp.MustCompile("ready to accept connections")))
	j, err := first.Start(deadline(t), cmd, Name("db"), Endless(), ready)
	require.NoError(t, err)
	require.NoError(t, j.Restart(deadline(t), ready))
	used, err := j.Usage()
	require.NoError(t, err)
	assert.Greater(t, used.Processes, 3)
	first.Close()
	found := adoptOne(t, open(t, dir))
	require.Equal(t, Running, found.Status.State)
	did, err := found.Job.Stop(deadline(t))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(did.Killed), used.Processes-1)
	assert.NoFileExists(t, filepath.Join(data, "postmaster.pid"), "it ended well")
}

// TestMySQL has the script mysqld_safe, which starts the server anew when that is killed: to stop the job is to stop
// both.
func TestMySQL(t *testing.T) {
	if !testproc.Soaking() {
		t.Skip("takes long to set up: SAFEEXEC_TEST_SOAK=1")
	}
	safe, install := testproc.HasProgram(t, "mysqld_safe"), testproc.HasProgram(t, "mariadb-install-db")
	work, dir, port := t.TempDir(), t.TempDir(), freePort(t)
	data, socket, user := filepath.Join(work, "data"), filepath.Join(work, "s"), "--user=nobody"
	if os.Geteuid() == 0 {
		for at := work; len(at) > len(os.TempDir()); at = filepath.Dir(at) {
			require.NoError(t, os.Chmod(at, 0o755))
		}
		require.NoError(t, os.Chown(work, 65534, 65534))
	} else {
		user = "--skip-name-resolve"
	}
	setUp := exec.Command(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal",
		"--skip-test-db", user)
	setUp.Dir = work
	out, err := setUp.CombinedOutput()
	require.NoError(t, err, string(out))
	addr := net.JoinHostPort(loopback(), port)
	first := startHost(t, dir)
	fmt.Fprintln(first.in, "db exec "+strings.Join([]string{safe, "--no-defaults", "--datadir=" + data, "--socket=" + socket,
		"--pid-file=" + filepath.Join(work, "pid"), "--bind-address=" + loopback(), "--port=" + port,
		"--log-error=" + filepath.Join(work, "err"), user}, " "))
	require.Equal(t, "started db", first.line(t))
	up := func() bool { return accepts(deadline(t), addr) }
	testproc.Wait(t, up)
	first.kill()

	found := adoptOne(t, open(t, dir))
	require.Equal(t, Running, found.Status.State)
	j := found.Job
	server := func() int {
		text, _ := os.ReadFile(filepath.Join(work, "pid"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return pid
	}
	killed := server()
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	testproc.Wait(t, func() bool { now := server(); return now != 0 && now != killed && up() }) // it was started anew
	require.NoError(t, j.Restart(deadline(t), Endless(), Ready(2*time.Minute, Port(addr))))
	st := status(t, j)
	assert.Equal(t, 2, st.Run)
	did, err := j.Stop(deadline(t))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(did.Killed), 2, "the script and the server")
	r, err := read(j.dir())
	require.NoError(t, err)
	left, err := census(r.Trace)
	require.NoError(t, err)
	assert.Empty(t, left)
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err, "the port is free")
	l.Close()
}
