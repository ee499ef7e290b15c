package testproc

import (
	"encoding/binary"
	"os"
	"syscall"
)

// Requests and sizes of linux/fuse.h, protocol 7.31.
const (
	fuseLookup      = 1
	fuseForget      = 2
	fuseGetattr     = 3
	fuseOpen        = 14
	fuseRead        = 15
	fuseRelease     = 18
	fuseFlush       = 25
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseBatchForget = 42
	fuseInHeader    = 40
	fuseOutHeader   = 16
	fuseBufferLen   = 1<<17 + 4096 // no less than a write of max_write and its header
	fuseRootID      = 1
	fuseFileID      = 2
	fuseDirectIO    = 1 // FOPEN_DIRECT_IO: each read is a request of its own
	fuseFileLen     = 4096
	fuseHour        = 3600
	fuseMajor       = 7
	fuseMinor       = 31
)

// serveFUSE answers what comes before a read of the one file, until the file system is aborted. Once it has accepted
// a read, it makes a file of the given name.
func serveFUSE(fd int, accepted string) {
	buf := make([]byte, fuseBufferLen)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR || err == syscall.EAGAIN || err == syscall.ENOENT {
			continue // ENOENT: the request was withdrawn
		}
		if err != nil || n < fuseInHeader {
			return // ENODEV: aborted
		}
		opcode := binary.NativeEndian.Uint32(buf[4:])
		unique := binary.NativeEndian.Uint64(buf[8:])
		node := binary.NativeEndian.Uint64(buf[16:])
		if opcode == fuseRead {
			if err := os.WriteFile(accepted, nil, 0o600); err != nil {
				fail("%v", err)
			}
		}
		body, errno, answer := fuseAnswer(opcode, node)
		if !answer {
			continue
		}
		out := make([]byte, 0, fuseOutHeader+len(body))
		out = binary.NativeEndian.AppendUint32(out, uint32(fuseOutHeader+len(body)))
		out = binary.NativeEndian.AppendUint32(out, uint32(-int32(errno)))
		out = binary.NativeEndian.AppendUint64(out, unique)
		syscall.Write(fd, append(out, body...)) // fails if the request was withdrawn
	}
}

// fuseAnswer returns the body or the error of the answer, or that there is to be none.
func fuseAnswer(opcode uint32, node uint64) (body []byte, errno syscall.Errno, answer bool) {
	order := binary.NativeEndian
	switch opcode {
	case fuseInit:
		body = order.AppendUint32(body, fuseMajor)
		body = order.AppendUint32(body, fuseMinor)
		body = append(body, make([]byte, 12)...) // max_readahead, flags, max_background …
		body = order.AppendUint32(body, 1<<17)   // max_write
		return append(body, make([]byte, 64-len(body))...), 0, true
	case fuseLookup:
		body = order.AppendUint64(body, fuseFileID)
		body = order.AppendUint64(body, 0) // generation
		body = order.AppendUint64(body, fuseHour)
		body = order.AppendUint64(body, fuseHour)
		body = order.AppendUint64(body, 0) // the nanoseconds of both
		return append(body, fuseAttr(fuseFileID)...), 0, true
	case fuseGetattr:
		body = order.AppendUint64(body, fuseHour)
		body = order.AppendUint64(body, 0) // nanoseconds, padding
		return append(body, fuseAttr(node)...), 0, true
	case fuseOpen:
		body = order.AppendUint64(body, 0) // handle
		body = order.AppendUint32(body, fuseDirectIO)
		return order.AppendUint32(body, 0), 0, true
	case fuseFlush, fuseRelease:
		return nil, 0, true
	case fuseRead, fuseForget, fuseBatchForget, fuseInterrupt:
		return nil, 0, false
	default:
		return nil, syscall.ENOSYS, true
	}
}

// fuseAttr returns struct fuse_attr of the root or the file.
func fuseAttr(node uint64) []byte {
	mode, size := uint32(syscall.S_IFREG|0o755), uint64(fuseFileLen)
	if node == fuseRootID {
		mode, size = syscall.S_IFDIR|0o755, 0
	}
	attr := make([]byte, 88)
	binary.NativeEndian.PutUint64(attr[0:], node)
	binary.NativeEndian.PutUint64(attr[8:], size)
	binary.NativeEndian.PutUint32(attr[60:], mode)
	binary.NativeEndian.PutUint32(attr[64:], 1) // links
	return attr
}
