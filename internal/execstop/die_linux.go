package execstop

import (
	"os"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// DieWithUs has the kernel kill the command, which is stopped, if this process ends before Release.
func (s *Stop) DieWithUs() error {
	err := sys.TraceDieWithUs(s.child.Pid)
	if sys.Gone(err) {
		return nil // killed in the stop
	}
	return os.NewSyscallError("ptrace", err)
}
