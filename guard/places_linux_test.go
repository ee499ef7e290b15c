package guard_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// What a program does whose commands have a cgroup of their own, with a guard and without.
const (
	inCgroup      = "in a cgroup"
	inCgroupAlone = "in a cgroup without a guard"
)

// Wherever a program runs, its guard ends what it leaves; without one that is for the place to do.
func TestPlaces(t *testing.T) {
	t.Parallel()
	units := unitsOf(startManager(t))
	both := []string{withNothing, withGuard}
	for _, place := range []struct {
		name    string
		with    []string
		through func(t *testing.T) func(t *testing.T) string // see throughVariable
		ends    bool                                         // all that is in it, once the program ends
	}{
		{"cgroup", []string{inCgroupAlone, inCgroup}, nowhere, false},
		{"container", both, containers, true},
		{"unit", both, units("--property=KillMode=control-group"), true},
		{"unit that ends its first process", both, units("--property=KillMode=process"), false},
		{"scope", both, units("--scope"), false},
	} {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			through := place.through(t)
			for _, with := range place.with {
				for how := range ends {
					guarded := with == withGuard || with == inCgroup
					if how != "SIGKILL" && (testing.Short() || !guarded && !testproc.Soaking()) {
						continue // how it ends makes no difference to the place
					}
					t.Run(with+"/"+how, func(t *testing.T) {
						testPlace(t, through(t), with, how, place.ends)
					})
				}
			}
		})
	}
}

func testPlace(t *testing.T, through, with, how string, ended bool) {
	guarded := with == withGuard || with == inCgroup
	var env []string
	if through != "" {
		env = append(env, throughVariable+"="+through)
	}
	var pid int
	t.Cleanup(func() { // nothing else has removed the cgroup of a program without a guard
		for _, dir := range cgroups(t, fmt.Sprintf("safeexec-%d-*", pid)) {
			testproc.Wait(t, func() bool { _ = os.Remove(dir); return !exists(dir) })
		}
	})
	p := start(t, with, "echo started; exec sleep 7014", env...)
	line := p.line(t)
	if line == "no cgroup" {
		t.Skip("no cgroup can be made here")
	}
	require.Equal(t, "started", line)
	pid = p.host(t)
	ends[how](t, p, pid)
	_ = p.Wait()
	p.check(t, ended || guarded)
	if guarded && !ended {
		p.guardGone(t)
		records := p.records(t)
		require.Len(t, records, 1)
		assert.NotContains(t, records[0], "error")
	}
}

// host returns the PID of the program, which is not that of what it is executed through.
func (p *program) host(t *testing.T) int {
	t.Helper()
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	hosts := p.named(strings.TrimSpace(string(comm)))
	require.Len(t, hosts, 1)
	return hosts[0]
}

func nowhere(*testing.T) func(*testing.T) string { return func(*testing.T) string { return "" } }

// executable returns the path of this program, which is executed with the arguments that follow.
func executable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return exe
}

// containers makes the program the first process of a PID namespace of its own.
func containers(t *testing.T) func(*testing.T) string {
	t.Helper()
	unshare, setsid := testproc.HasProgram(t, "unshare"), testproc.HasProgram(t, "setsid")
	if err := exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").Run(); err != nil {
		t.Skip("no PID namespace can be made here: ", err)
	}
	return func(t *testing.T) string {
		return unshare + " --pid --fork --mount-proc --kill-child " + setsid + " " + executable(t)
	}
}

// manager runs systemd as a user's manager, in a PID namespace and a cgroup of its own, with none of the units that the
// user has but the bus. That takes a /run that looks as if systemd had booted the machine. It says ready, or no, and ends
// with its standard input, so with the test, however that ends. Until then it reaps, as a first process should.
const manager = `
name=$1
trap 'echo no' EXIT
exec 3<&0 </dev/null
for dir in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
	[ ! -e $dir/cgroup.procs ] || { mkdir -p $dir/$name && echo 0 >$dir/$name/cgroup.procs; } || exit
done
mount -t tmpfs tmpfs /run && mkdir -p -m 700 /run/systemd/system $XDG_RUNTIME_DIR || exit
/lib/systemd/systemd --user --unit=dbus.socket >/dev/null 2>&1 &
for try in 1 2 3 4 5 6 7 8 9 10; do
	sleep 0.5
	! timeout 10 systemd-run --user --pipe --wait --quiet echo ready || { cat <&3 & wait $!; exit; }
done
`

const runtimeDirectory = "XDG_RUNTIME_DIR=/run/user/0"

// unitsOf returns what executes the program as a unit of that manager, with arguments of systemd-run(1).
func unitsOf(manager int) func(string) func(*testing.T) func(*testing.T) string {
	return func(arguments string) func(*testing.T) func(*testing.T) string {
		return func(t *testing.T) func(*testing.T) string {
			t.Helper()
			if manager == 0 {
				t.Skip("systemd cannot be a user's manager here")
			}
			command := "exec systemd-run --user --quiet --collect " + arguments
			if !strings.Contains(arguments, "--scope") { // it hands on three descriptors, and no environment
				for _, name := range []string{
					hostVariable, logVariable, tokenVariable, testproc.DisableVariable, "GORACE", "TMPDIR",
				} {
					command += fmt.Sprintf(` ${%s+-E "%[1]s=$%[1]s"}`, name)
				}
				command += fmt.Sprintf(` --pipe --wait sh -c 'exec %d>/proc/$0/fd/%[1]d && exec "$@"' $$`, canaryFD)
			}
			command += " " + executable(t) + ` "$@"`
			unit := filepath.Join(t.TempDir(), "unit")
			testproc.WriteExecutable(t, unit, []byte("#!/bin/sh\nexport "+runtimeDirectory+"\n"+command+"\n"), 0o700)
			return func(t *testing.T) string {
				return fmt.Sprintf("%s --mount=/proc/%d/ns/mnt --pid=/proc/%[2]d/ns/pid_for_children %s",
					testproc.HasProgram(t, "nsenter"), manager, unit)
			}
		}
	}
}

// startManager returns the PID of a process whose children are in the manager's namespaces; 0 if there can be none.
func startManager(t *testing.T) int {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil || testproc.Unprivileged() {
		return 0
	}
	args := []string{"--mount", "--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command(unshare, append(args, "true")...).Run() != nil {
		return 0
	}
	removeStale()
	name := fmt.Sprintf("safeexec-test-%d-%d", os.Getpid(), rand.Uint32())
	t.Cleanup(func() { removeCgroups(t, name) })
	cmd := exec.Command(unshare, append(args, "sh", "-c", manager, "sh", name)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "DBUS_SESSION_BUS_ADDRESS=")
	}), runtimeDirectory, "HOME="+t.TempDir())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = cmd.StdinPipe() // open until Wait
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if testproc.ReadLine(t, out) != "ready" {
		return 0
	}
	return cmd.Process.Pid
}

// removeCgroups removes what the manager has made, once it and all below it are gone.
func removeCgroups(t *testing.T, name string) {
	for _, dir := range madeAs(name) {
		testproc.Wait(t, func() bool { _ = os.Remove(dir); return !exists(dir) })
	}
}

// removeStale removes what managers have made whose test was killed. What is not empty stays.
func removeStale() {
	for _, dir := range madeAs("safeexec-test-*-*") {
		_, name, _ := strings.Cut(dir, "safeexec-test-")
		if pid, _, _ := strings.Cut(name, "-"); !exists("/proc/" + pid) {
			_ = os.Remove(dir)
		}
	}
}

// madeAs returns the managers' cgroups whose name matches, and those below them, which come first.
func madeAs(pattern string) (dirs []string) {
	for _, root := range []string{"systemd", "unified", "."} {
		tops, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", root, pattern))
		for _, top := range tops {
			_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	slices.Reverse(dirs)
	return dirs
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
