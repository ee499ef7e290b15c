// Package drain moves the bytes of a command: out of its output pipes into a bounded buffer or a
// caller's Writer, and from a caller's Reader into its input pipe.
//
// One goroutine, the run's own, reads and writes the pipes, never blocking. A caller's Reader or
// Writer may block for ever, so each that is not known to return at once gets a goroutine that can be
// left behind with the one call it is stuck in. A Writer's goroutine is lent the pipe once the stream
// goes on, and reads it until its end or until the run takes it back: see [Output.Lend]. A Reader's is
// lent the pipe in the same way, and fills it: see [Input.Lend].
//
// A pipe that is found full again and again is enlarged, where it can be, and read in larger parts. One
// turn of the run reads 256 KiB of a stream at most, and writes 1 MiB, so that a flood starves nothing
// else of it.
//
// What is kept can be delivered as well, from the beginning or from some point on: see [Output.Tee].
package drain
