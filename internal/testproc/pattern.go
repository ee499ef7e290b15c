package testproc

import (
	"fmt"
	"strconv"
	"strings"
)

// recordLen is the length of the pattern's records: the record's number in 15 hexadecimal digits,
// then a newline. A loss, a repetition or a swap anywhere changes what follows.
const recordLen = 16

// FillPattern fills p with the bytes that the helper spew writes at offset off.
func FillPattern(p []byte, off int64) {
	const digits = "0123456789abcdef"
	for len(p) > 0 {
		var rec [recordLen]byte
		rec[recordLen-1] = '\n'
		n := off / recordLen
		for i := recordLen - 2; i >= 0; i-- {
			rec[i] = digits[n&15]
			n >>= 4
		}
		k := copy(p, rec[off%recordLen:])
		p = p[k:]
		off += int64(k)
	}
}

// CheckPattern returns an error naming the first place where p is not what spew writes at offset
// off, and from which offset the bytes there seem to come; nil if all of p is right.
func CheckPattern(p []byte, off int64) error {
	want := make([]byte, len(p))
	FillPattern(want, off)
	for i := range p {
		if p[i] == want[i] {
			continue
		}
		// The record that the wrong byte belongs to begins where the last newline was.
		rest := p[strings.LastIndexByte(string(p[:i]), '\n')+1:]
		if len(rest) >= recordLen && rest[recordLen-1] == '\n' {
			if n, err := strconv.ParseInt(string(rest[:recordLen-1]), 16, 64); err == nil {
				return fmt.Errorf("pattern broken at offset %d: the record there is that of offset %d",
					off+int64(i), n*recordLen)
			}
		}
		return fmt.Errorf("pattern broken at offset %d: %q", off+int64(i), rest[:min(len(rest), 32)])
	}
	return nil
}

// PatternChecker is a Writer that checks a stream of any length against the pattern. The zero value
// is ready. Write never fails, so that the writer's behavior is not the checker's doing.
type PatternChecker struct {
	N   int64 // bytes seen
	Err error // the first break
}

// Write checks p, which follows what was written before.
func (c *PatternChecker) Write(p []byte) (int, error) {
	if c.Err == nil {
		c.Err = CheckPattern(p, c.N)
	}
	c.N += int64(len(p))
	return len(p), nil
}
