package procfs

import "bytes"

// parseRows parses each line of data. A row that does not parse is passed over and its error, the
// first, is returned beside all others: one odd row must not hide the rest. A last line without
// newline was cut off and may end in half a number, so it is odd too.
func parseRows[T any](name string, data []byte, parse func(line []byte) (T, error)) ([]T, error) {
	var rows []T
	var first error
	for len(data) > 0 {
		line, rest := cutLine(data)
		if rest == nil {
			if first == nil {
				first = malformed(name, "last row is cut off")
			}
			break
		}
		data = rest
		row, err := parse(line)
		if err == nil {
			rows = append(rows, row)
		} else if first == nil {
			first = err
		}
	}
	return rows, first
}

// maxLine is far more than the longest row of /proc/net.
const maxLine = 4096

// lines puts a stream of chunks back into lines, in bounded memory.
type lines struct {
	visit   func(line []byte) bool // the line is only valid during the call; false stops
	carry   []byte                 // the beginning of a line whose end has not come yet
	stopped bool
}

// add takes the next chunk and reports whether more is wanted. Of a line longer than maxLine, visit
// gets the beginning.
func (l *lines) add(chunk []byte) bool {
	for len(chunk) > 0 && !l.stopped {
		end := bytes.IndexByte(chunk, '\n')
		piece := chunk
		if end >= 0 {
			piece = chunk[:end]
		}
		switch {
		case end >= 0 && len(l.carry) == 0 && len(piece) <= maxLine:
			l.stopped = !l.visit(piece)
		default:
			l.carry = append(l.carry, piece[:min(len(piece), maxLine-len(l.carry))]...)
			if end >= 0 {
				l.flush()
			}
		}
		if end < 0 {
			break
		}
		chunk = chunk[end+1:]
	}
	return !l.stopped
}

// flush ends the line in carry.
func (l *lines) flush() {
	l.stopped = !l.visit(l.carry)
	l.carry = l.carry[:0]
}

// readLines hands the lines of f to visit as they are read, until it returns false. A last line
// without newline is not handed over: it was cut off.
func readLines(f file, visit func(line []byte) bool) error {
	l := lines{visit: visit}
	return readChunks(f, l.add)
}
