package fdtable

import (
	"slices"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// atBirth is what this process was born with. It is listed while packages are initialized, because
// nothing tells later: a descriptor that is open then and not close-on-exec came through exec, or
// from a C library that was loaded before, which leaks just the same. That takes some 50 µs, once.
var atBirth = listBorn()

// born holds the files by their descriptors. It is not changed after the initialization.
type born map[int]sys.File

// A declared descriptor is one that a variable of a child's environment hands to it.
type declared struct {
	fd       int
	variable string
}

func listBorn() born {
	b := make(born)
	_ = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if marked, err := sys.CloseOnExec(fd); err != nil || marked {
			return true
		}
		if file, err := sys.FileOf(fd); err == nil {
			b[fd] = file
		}
		return true
	})
	return b
}

// has reports whether fd is still the file that this process was born with.
func (b born) has(fd int, file sys.File) bool {
	at, ok := b[fd]
	return ok && at.Dev == file.Dev && at.Inode == file.Inode
}

// declaredBy returns, in ascending order, the descriptors that the environment of a child declares;
// nil is that of this process. Those are the pipe of make's jobserver, if this process was born with
// it: make leaves its variable in place where it closed the pipe. The sockets of LISTEN_FDS are not
// declared: LISTEN_PID says that they are for one process alone, and sd_listen_fds(3) marks them.
func (b born) declaredBy(env []string) []declared {
	var list []declared
	for _, variable := range jobserverVariables {
		r, w, ok := jobserver(lookup(env, variable))
		if !ok {
			continue
		}
		for _, fd := range [...]int{r, w} {
			file, err := sys.FileOf(fd)
			if err == nil && file.Type == sys.TypeFIFO && b.has(fd, file) && declares(list, fd) == "" {
				list = append(list, declared{fd, variable})
			}
		}
	}
	slices.SortFunc(list, func(x, y declared) int { return x.fd - y.fd })
	return list
}

// Declared says what is left to do for the descriptors that env, the environment of a child, declares:
// handed are those that only [Pass] can give to it, as they are marked close-on-exec. withheld are
// those that [Seal] leaves unmarked, because the environment of this process declares them, and that
// env does not declare.
func Declared(env []string) (handed, withheld []int) {
	own, child := atBirth.declaredBy(nil), atBirth.declaredBy(env)
	for _, d := range child {
		if marked, err := sys.CloseOnExec(d.fd); err == nil && marked {
			handed = append(handed, d.fd)
		}
	}
	for _, d := range own {
		if declares(child, d.fd) == "" {
			withheld = append(withheld, d.fd)
		}
	}
	return handed, withheld
}

func declares(list []declared, fd int) (variable string) {
	for _, d := range list {
		if d.fd == fd {
			return d.variable
		}
	}
	return ""
}
