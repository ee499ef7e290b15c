package fdtable

import (
	"slices"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// Undeclared lists the descriptors of a child, which stands before its first instruction, that are
// neither standard streams, extra files nor passed on nor declared by its environment. extra says
// of each extra file whether there is one.
func Undeclared(pid int, extra []bool, passed []int, env []string) ([]FD, error) {
	declared := atBirth.declaredBy(env)
	kernels, err := procfs.ReadExecFD(pid)
	if err != nil {
		return nil, err
	}
	var list []FD
	err = procfs.WalkFDs(pid, func(fd int, link []byte) bool {
		i := fd - FirstFD
		switch {
		case i < 0, i < len(extra) && extra[i], slices.Contains(passed, fd), fd == kernels:
		case i >= len(extra) && declares(declared, fd) != "":
		default:
			list = append(list, describeOf(pid, fd, string(link)))
		}
		return true
	})
	return list, err
}

// describeOf tells what the descriptor of another process is, as far as /proc does.
func describeOf(pid, fd int, link string) FD {
	d := FD{Num: fd}
	d.Kind, d.Target = kindOf(link)
	if info, err := procfs.ReadFDInfo(pid, fd); err == nil {
		d.Read, d.Write, d.CloseOnExec = info.CanRead(), info.CanWrite(), info.CloseOnExec()
	}
	d.Deleted = procfs.ParseFDTarget(link).Deleted && d.Kind == KindFile
	return d
}
