package reexec

import "os"

// A Copy is what a copy has of the program that started it.
type Copy struct {
	PID    int      // of the program
	Start  uint64   // and its start time in ticks: the number may be another's by now
	Socket *os.File // the copy's end; closed on the other side once the program is gone, or executes another
	Files  []*os.File
}

// Dismiss closes the socket of a copy that may come late: that reads something first, so that it does not take the
// program for dead.
func Dismiss(socket *os.File) {
	_, _ = socket.Write([]byte{'-'})
	socket.Close()
}
