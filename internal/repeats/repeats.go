// Package repeats knows whether a command's output is the same as last time.
package repeats

import (
	"crypto/sha256"
	"encoding/binary"
	"os/exec"
	"sync"
)

// Long is from where on an output can be the same as another, in bytes.
const Long = 256

// maxCommands is how many commands' last outputs a Memory knows.
const maxCommands = 256

// A Memory knows the last outputs of the last commands, by digest. The zero Memory knows none. It is safe for
// concurrent use.
type Memory struct {
	mu   sync.Mutex
	last map[Key]*outputs
	uses uint64
}

// A Key is the digest of a command.
type Key [sha256.Size]byte

// An Output is what was kept of an output: all of it, or the first Head bytes of Total and the last.
type Output struct {
	Total int64
	Head  int
	Data  []byte
}

// A Repeat says how an output compares to the one before.
type Repeat struct {
	Equal bool
	Count int // how often it was equal by now, or, if it is not, how often the one before was
}

type outputs struct {
	used    uint64
	streams [2]struct {
		digest  [sha256.Size]byte
		long    bool // the last output was over Long bytes, and digest is its
		repeats int
	}
}

// KeyOf returns the digest of what makes a command the same as another.
func KeyOf(cmd *exec.Cmd) Key {
	h := sha256.New()
	for _, list := range [][]string{{cmd.Path, cmd.Dir}, cmd.Args} {
		for _, s := range list {
			_ = binary.Write(h, binary.LittleEndian, uint64(len(s)))
			h.Write([]byte(s))
		}
	}
	return Key(h.Sum(nil))
}

// Compare compares the outputs of a command to those of its last run, and remembers them.
func (m *Memory) Compare(key Key, now [2]Output) (repeats [2]Repeat) {
	digests := [2][sha256.Size]byte{digestOf(now[0]), digestOf(now[1])} // outside the lock: 1 MiB takes a while
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.lastOf(key)
	for i := range now {
		was := &last.streams[i]
		long := len(now[i].Data) > Long
		equal := long && was.long && was.digest == digests[i]
		if equal {
			was.repeats++
		}
		repeats[i] = Repeat{equal, was.repeats}
		if !equal {
			was.repeats = 0
		}
		was.long, was.digest = long, digests[i]
	}
	return repeats
}

// lastOf returns what is known of a command, and forgets the one that was not run for longest if there
// are too many.
func (m *Memory) lastOf(key Key) *outputs {
	m.uses++
	last := m.last[key]
	if last == nil {
		if len(m.last) >= maxCommands {
			var oldest Key
			used := m.uses
			for k, l := range m.last {
				if l.used < used {
					oldest, used = k, l.used
				}
			}
			delete(m.last, oldest)
		}
		if m.last == nil {
			m.last = map[Key]*outputs{}
		}
		last = new(outputs)
		m.last[key] = last
	}
	last.used = m.uses
	return last
}

// digestOf returns the digest of an output that can be the same as another.
func digestOf(o Output) (digest [sha256.Size]byte) {
	if len(o.Data) <= Long {
		return digest
	}
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, [2]int64{o.Total, int64(o.Head)})
	h.Write(o.Data)
	return [sha256.Size]byte(h.Sum(nil))
}
