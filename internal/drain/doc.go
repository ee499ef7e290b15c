// Package drain moves the bytes of a command: out of its output pipes into a bounded buffer or a
// caller's Writer, and from a caller's Reader into its input pipe.
//
// The run's goroutine reads and writes the pipes, and never blocks. A caller's Reader or Writer may block for ever, so
// each that is not known to return at once gets a goroutine, which can be left behind in the call that it is stuck in.
// A stream that lasts is lent to that goroutine, which then moves its bytes by itself: see [Output.Lend] and
// [Input.Lend].
//
// A pipe that is found full again and again is enlarged, where it can be, and read in larger parts. One
// turn of the run reads 256 KiB of a stream at most, and writes 1 MiB, so that a flood starves nothing
// else of it.
//
// What is kept can be delivered as well, from the beginning or from some point on: see [Output.Tee].
package drain
