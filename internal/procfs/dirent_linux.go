package procfs

import (
	"bytes"
	"encoding/binary"
)

// eachNumber walks a buffer of struct linux_dirent64, see getdents(2), and calls visit with each
// name that is a plain decimal number. It returns false once visit did. Where the lengths do not
// add up the rest is passed over.
func eachNumber(b []byte, visit func(n int) bool) bool {
	const (
		reclenAt = 16 // after d_ino and d_off, 8 bytes each
		nameAt   = 19 // after d_reclen, 2 bytes, and d_type
	)
	for len(b) > nameAt {
		size := int(binary.NativeEndian.Uint16(b[reclenAt:]))
		if size <= nameAt || size > len(b) {
			return true
		}
		name := b[nameAt:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			if n, ok := entryNumber(name[:end]); ok && !visit(n) {
				return false
			}
		}
		b = b[size:]
	}
	return true
}
