package drain

import "sync"

const (
	// chunkSize is how much one read asks for at first: the default size of a pipe.
	chunkSize = 64 << 10
	// largeSize is how much one read asks for once the pipe was enlarged, and the most that one turn reads: a flood
	// must not keep the rest of the run waiting. Each read of a full pipe hands the pipe's lock to the writer and back,
	// and four of 64 KiB take a fifth longer than one of 256.
	largeSize = 256 << 10
)

// A chunk is a lent buffer.
type chunk struct{ buf []byte }

// chunks and largeChunks lend buffers, so that a run that waits holds none.
var (
	chunks      = sync.Pool{New: func() any { return &chunk{make([]byte, chunkSize)} }}
	largeChunks = sync.Pool{New: func() any { return &chunk{make([]byte, largeSize)} }}
)

// borrow returns a chunk of chunkSize or largeSize.
func borrow(size int) *chunk {
	if size == largeSize {
		return largeChunks.Get().(*chunk)
	}
	return chunks.Get().(*chunk)
}

func (c *chunk) giveBack() {
	if len(c.buf) == largeSize {
		largeChunks.Put(c)
		return
	}
	chunks.Put(c)
}

// growAfter is how often a pipe is found full before it is enlarged: short outputs are over by then, and a reader that
// keeps up with the writer needs no larger pipe. If the kernel refuses, the next try comes after twice as many.
const growAfter = 4

// A grower is a pipe that can be enlarged.
type grower interface {
	Grow() bool
}

// A heavy counts how often a pipe was found full. It belongs to the goroutine that reads or writes the pipe.
type heavy struct {
	full  int
	tried int  // full at the last try to enlarge it
	large bool // the pipe was enlarged
}

// found counts that the pipe was full, and enlarges it when it is time to.
func (h *heavy) found(pipe any) {
	if h.full++; h.large || h.full < max(growAfter, 2*h.tried) {
		return
	}
	h.tried = h.full
	if g, ok := pipe.(grower); ok {
		h.large = g.Grow()
	}
}

// size returns how much is to be moved at once.
func (h *heavy) size() int {
	if h.large {
		return largeSize
	}
	return chunkSize
}
