package proctree

import (
	"fmt"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Resource is what a limit limits.
type Resource = sys.Resource

// The resources.
const (
	ResourceCPU          = sys.ResourceCPU
	ResourceAddressSpace = sys.ResourceAddressSpace
	ResourceOpenFiles    = sys.ResourceOpenFiles
	ResourceProcesses    = sys.ResourceProcesses
	ResourceFileSize     = sys.ResourceFileSize
	ResourceCore         = sys.ResourceCore
)

var resourceNames = map[Resource]string{
	ResourceCPU: "RLIMIT_CPU", ResourceAddressSpace: "RLIMIT_AS", ResourceOpenFiles: "RLIMIT_NOFILE",
	ResourceProcesses: "RLIMIT_NPROC", ResourceFileSize: "RLIMIT_FSIZE", ResourceCore: "RLIMIT_CORE",
}

// SetLimit sets both limits of our unreaped child pid.
func SetLimit(pid int, r Resource, n uint64) error {
	if err := sys.SetLimit(pid, r, n); err != nil {
		return fmt.Errorf("prlimit %s: %w", resourceNames[r], err)
	}
	return nil
}

// SetNice sets the nice value of our unreaped child pid.
func SetNice(pid, nice int) error {
	if err := sys.SetNice(pid, nice); err != nil {
		return fmt.Errorf("setpriority: %w", err)
	}
	return nil
}
