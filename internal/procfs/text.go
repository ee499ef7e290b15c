package procfs

import "bytes"

// cutLine splits data after its first newline. The line comes without it. A last line that lacks
// its newline is returned as it is; callers check with bytes.HasSuffix if that matters.
func cutLine(data []byte) (line, rest []byte) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i], data[i+1:]
	}
	return data, nil
}

// cutField returns the next run of bytes that are neither space nor tab, and what follows it.
func cutField(data []byte) (field, rest []byte) {
	data = trimLeft(data)
	for i, c := range data {
		if c == ' ' || c == '\t' {
			return data[:i], data[i:]
		}
	}
	return data, nil
}

func trimLeft(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\t') {
		data = data[1:]
	}
	return data
}

// parseUint is strict where strconv is friendly: digits only, no sign, no underscore, no prefix.
func parseUint(b []byte, base, bits uint) (uint64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	most := ^uint64(0) >> (64 - bits)
	var v uint64
	for _, c := range b {
		var d uint64
		switch {
		case c >= '0' && c <= '9':
			d = uint64(c - '0')
		case c >= 'a' && c <= 'f':
			d = uint64(c-'a') + 10
		case c >= 'A' && c <= 'F':
			d = uint64(c-'A') + 10
		default:
			return 0, false
		}
		if d >= uint64(base) || d > most || v > (most-d)/uint64(base) {
			return 0, false
		}
		v = v*uint64(base) + d
	}
	return v, true
}

// parseInt is parseUint in decimal with an optional minus.
func parseInt(b []byte, bits uint) (int64, bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	v, ok := parseUint(b, 10, bits)
	half := uint64(1) << (bits - 1)
	switch {
	case !ok:
		return 0, false
	case negative && v <= half:
		return -int64(v), true
	case !negative && v < half:
		return int64(v), true
	}
	return 0, false
}

// parseHex parses 0x1f as printed by %#x or 0x%lx.
func parseHex(b []byte) (uint64, bool) {
	digits, ok := bytes.CutPrefix(b, []byte("0x"))
	if !ok {
		return 0, false
	}
	return parseUint(digits, 16, 64)
}

// numbers walks the fields of a line and remembers whether one was not a number, so that parsers of
// long rows check once at the end. It moves an index and not the slice: a slice stored through a
// pointer would send the caller's buffer to the heap.
type numbers struct {
	line []byte
	at   int
	bad  bool
}

func (n *numbers) field() []byte {
	f, rest := cutField(n.line[n.at:])
	n.at = len(n.line) - len(rest)
	return f
}

func (n *numbers) rest() []byte { return n.line[n.at:] }

func (n *numbers) skip(count int) {
	for range count {
		if len(n.field()) == 0 {
			n.bad = true
		}
	}
}

func (n *numbers) uint(base, bits uint) uint64 {
	v, ok := parseUint(n.field(), base, bits)
	if !ok {
		n.bad = true
	}
	return v
}

func (n *numbers) int(bits uint) int64 {
	v, ok := parseInt(n.field(), bits)
	if !ok {
		n.bad = true
	}
	return v
}

// pid parses a pid_t, which may be 0 (not visible in this PID namespace) or -1 (none).
func (n *numbers) pid() int { return int(n.int(32)) }
