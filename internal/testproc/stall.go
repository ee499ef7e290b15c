package testproc

import (
	"bytes"
	"io"
	"sync"
)

// A StalledWriter is a Writer that blocks until it is released, and then keeps what it is given.
type StalledWriter struct {
	gate gate
	sink recorder
}

// NewStalledWriter returns a writer that blocks.
func NewStalledWriter() *StalledWriter { return &StalledWriter{gate: newGate()} }

// Write blocks until Release.
func (w *StalledWriter) Write(p []byte) (int, error) {
	w.gate.pass()
	return w.sink.Write(p)
}

// Entered returns a channel that is closed when the first Write has begun.
func (w *StalledWriter) Entered() <-chan struct{} { return w.gate.entered }

// Release lets every Write, also later ones, through. It may be called more than once.
func (w *StalledWriter) Release() { w.gate.release() }

// Bytes returns a copy of what was written so far.
func (w *StalledWriter) Bytes() []byte { return w.sink.Bytes() }

// A StalledReader is a Reader that blocks until it is released, and then gives its data and EOF.
type StalledReader struct {
	gate gate
	mu   sync.Mutex
	data *bytes.Reader
}

// NewStalledReader returns a reader that blocks.
func NewStalledReader(data []byte) *StalledReader {
	return &StalledReader{gate: newGate(), data: bytes.NewReader(data)}
}

// Read blocks until Release.
func (r *StalledReader) Read(p []byte) (int, error) {
	r.gate.pass()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.data.Read(p)
}

// Entered returns a channel that is closed when the first Read has begun.
func (r *StalledReader) Entered() <-chan struct{} { return r.gate.entered }

// Release lets every Read, also later ones, through. It may be called more than once.
func (r *StalledReader) Release() { r.gate.release() }

// Unread returns how many bytes of the data were not read yet.
func (r *StalledReader) Unread() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.data.Len()
}

// A SlowWriter is a Writer that calls a function before it keeps what it is given.
type SlowWriter struct {
	perWrite func()
	sink     recorder
}

// NewSlowWriter returns a writer that calls perWrite in each Write: a sleep, or a handshake.
func NewSlowWriter(perWrite func()) *SlowWriter { return &SlowWriter{perWrite: perWrite} }

// Write calls the function, then keeps p.
func (w *SlowWriter) Write(p []byte) (int, error) {
	w.perWrite()
	return w.sink.Write(p)
}

// Bytes returns a copy of what was written so far.
func (w *SlowWriter) Bytes() []byte { return w.sink.Bytes() }

var (
	_ io.Writer = (*StalledWriter)(nil)
	_ io.Reader = (*StalledReader)(nil)
	_ io.Writer = (*SlowWriter)(nil)
)

// A gate holds up callers until it is released, and tells when the first arrived.
type gate struct {
	entered, released  chan struct{} // closed by the first pass, by release
	onEnter, onRelease func()
}

func newGate() gate {
	g := gate{entered: make(chan struct{}), released: make(chan struct{})}
	g.onEnter = sync.OnceFunc(func() { close(g.entered) })
	g.onRelease = sync.OnceFunc(func() { close(g.released) })
	return g
}

func (g *gate) pass() {
	g.onEnter()
	<-g.released
}

func (g *gate) release() { g.onRelease() }

// A recorder keeps what is written. It has no ReadFrom, by which io.Copy would go around Write.
type recorder struct {
	mu  sync.Mutex
	buf []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, p...)
	return len(p), nil
}

func (r *recorder) Bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.buf)
}
