package procfs

import "sync"

const (
	// bufferSize holds nearly every file of a process, and is what a read costs in memory.
	bufferSize = 16 << 10

	// keptBuffer is the largest buffer that goes back to the pool: one process with a huge
	// environment must not pin its size for the life of ours.
	keptBuffer = 256 << 10
)

var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, bufferSize)
	return &b
}}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) > keptBuffer {
		return
	}
	*b = (*b)[:0]
	buffers.Put(b)
}
