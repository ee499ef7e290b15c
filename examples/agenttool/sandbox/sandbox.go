// Package sandbox keeps a command from writing where it should not.
package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
)

// Restricted is the first argument that makes this program the launcher of a command under Landlock.
const Restricted = "run-restricted"

// A Sandbox keeps a command from writing outside the working directory and the directory for temporary
// files.
//
//	                         bwrap                            landlock
//	writes elsewhere         fail: mounted read-only          fail: EACCES
//	reads                    all that the user can            all that the user can
//	/tmp                     its own, gone at the end         shared
//	processes of others      not seen, not signaled           seen; signals only within
//	abstract sockets         reached                          only its own
//	TCP, UDP, path sockets   reached                          as well
//	chmod, chown, utimes     fail elsewhere                   work elsewhere
//	needs                    bubblewrap and user namespaces   Linux 6.12 with Landlock
//
// Through a socket of a service that does what it is told (docker.sock, the session bus) a command gets
// out of both. Neither bounds memory, processor time or the number of processes, and neither is meant for
// code that attacks the kernel.
type Sandbox struct {
	Name string
	Wrap func(argv []string) []string
}

// New returns the sandbox of that kind, or an error if this machine does not have it: a command
// never runs with less than what was asked for.
func New(kind, work string) (Sandbox, error) {
	_, missing := exec.LookPath("bwrap")
	if kind == "auto" {
		kind = "bwrap"
		if missing != nil {
			kind = "landlock"
		}
	}
	switch kind {
	case "none":
		return Sandbox{kind, func(argv []string) []string { return argv }}, nil
	case "bwrap":
		// Without --die-with-parent: the job is to outlive this program.
		return Sandbox{kind, func(argv []string) []string {
			return append([]string{"bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
				"--tmpfs", "/tmp", "--bind", work, work, "--unshare-pid", "--chdir", work, "--"}, argv...)
		}}, missing
	case "landlock":
		self, err := os.Executable()
		return Sandbox{kind, func(argv []string) []string {
			return append([]string{self, Restricted, work}, argv...)
		}}, err
	}
	return Sandbox{}, fmt.Errorf("sandbox %q: there is none, auto, bwrap and landlock", kind)
}

// Restrict restricts this process, and with it all that it starts, and becomes the command. It returns
// only if that fails.
func Restrict(work string, argv []string) error {
	rules := landlock.V6 // Linux 6.12: no writes elsewhere, no signals and no abstract sockets to others
	err := rules.RestrictPaths(
		landlock.RODirs("/"),
		landlock.RWDirs(work, os.TempDir()).WithRefer(),
		landlock.RWFiles("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom").
			WithIoctlDev().IgnoreIfMissing(),
	)
	if err != nil {
		return err
	}
	if err := rules.RestrictScoped(); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}
