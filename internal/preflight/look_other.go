//go:build !linux

package preflight

import (
	"os"
	"path/filepath"
)

// cached is always false: here nothing can be looked at that surely needs no waiting.
func (l *Look) cached() bool { return false }

// look asks for the directory and the program. Their contents are not read: the close would drop the
// locks that this process has on the file.
func (l *Look) look() {
	path := l.path
	if l.dir != "" {
		if l.badDir = DirError(l.dir) != nil; l.badDir {
			return
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(l.dir, path)
		}
	}
	_, _ = os.Stat(path)
}
