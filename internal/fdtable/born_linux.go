package fdtable

import (
	"os"
	"slices"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// atBirth is what this process was born with. It is listed while packages are initialized, because
// nothing tells later: a descriptor that is open then and not close-on-exec came through exec, or
// from a C library that was loaded before, which leaks just the same. That takes some 50 µs, once.
var atBirth = listBorn()

// born is what is known of the birth. It is not changed after the initialization.
type born struct {
	files    map[int]sys.File
	declared []declared // in ascending order
}

// declared is a descriptor that the environment of our birth declares and that is what it should
// be.
type declared struct {
	declaration
	file  sys.File
	value string // of the variable: whoever unsets it takes the declaration back
}

func listBorn() born {
	b := born{files: make(map[int]sys.File)}
	_ = procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		if marked, err := sys.CloseOnExec(fd); err != nil || marked {
			return true
		}
		if file, err := sys.FileOf(fd); err == nil {
			b.files[fd] = file
		}
		return true
	})
	for _, d := range declarations(os.Getenv, os.Getpid()) {
		file, ok := b.files[d.fd]
		if !ok || d.pipe && file.Type != sys.TypeFIFO {
			continue
		}
		b.declared = append(b.declared, declared{d, file, os.Getenv(d.variable)})
	}
	slices.SortStableFunc(b.declared, func(x, y declared) int { return x.fd - y.fd })
	b.declared = slices.CompactFunc(b.declared, func(x, y declared) bool { return x.fd == y.fd })
	return b
}

// has reports whether fd is still the file that this process was born with.
func (b *born) has(fd int, file sys.File) bool {
	at, ok := b.files[fd]
	return ok && at.Dev == file.Dev && at.Inode == file.Inode
}

// declaredNow returns the declarations that hold now. It allocates nothing where there are none.
func (b *born) declaredNow() []declared {
	if len(b.declared) == 0 {
		return nil
	}
	var list []declared
	for _, d := range b.declared {
		file, err := sys.FileOf(d.fd)
		if err == nil && b.has(d.fd, file) && os.Getenv(d.variable) == d.value {
			list = append(list, d)
		}
	}
	return list
}

func declares(list []declared, fd int) (variable string) {
	for _, d := range list {
		if d.fd == fd {
			return d.variable
		}
	}
	return ""
}
