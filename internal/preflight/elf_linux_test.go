package preflight

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// elfProgram returns the beginning of an ELF program: its headers at the given offset, behind them the
// path of its interpreter.
func elfProgram(class elfClass, order binary.ByteOrder, at int, interpreter string) string {
	p := make([]byte, at+2*int(class.entry))
	put := func(p []byte, v int) {
		if class.wordSize == 4 {
			order.PutUint32(p, uint32(v))
		} else {
			order.PutUint64(p, uint64(v))
		}
	}
	copy(p, elfMagic)
	p[4], p[5] = 1, 1
	if class.wordSize == 8 {
		p[4] = 2
	}
	if order == binary.BigEndian {
		p[5] = 2
	}
	put(p[class.tableOffset:], at)
	order.PutUint16(p[class.entrySize:], uint16(class.entry))
	order.PutUint16(p[class.entries:], 2)
	order.PutUint32(p[at:], 6) // PT_PHDR
	second := p[at+int(class.entry):]
	order.PutUint32(second, elfInterp)
	put(second[class.segmentOffset:], len(p))
	put(second[class.segmentSize:], len(interpreter)+1)
	return string(p) + interpreter + "\x00"
}

// interpreterIn asks for the interpreter of a program that is data, and checks what is read of it.
func interpreterIn(t testing.TB, data string) (string, error) {
	path, err := elfInterpreter(func(offset, size uint64) ([]byte, error) {
		require.NotZero(t, size)
		require.LessOrEqual(t, size, uint64(maxTable))
		require.GreaterOrEqual(t, int64(offset+size), int64(size), "what lseek(2) takes")
		p := make([]byte, size)
		_, err := io.ReadFull(io.NewSectionReader(strings.NewReader(data), int64(offset), int64(size)), p)
		return p, err
	})
	return string(path), err
}

func TestELFInterpreter(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, class := range []elfClass{elf32, elf64} {
			whole := elfProgram(class, order, 200, "/lib/ld.so")
			path, err := interpreterIn(t, whole)
			require.NoError(t, err)
			assert.Equal(t, "/lib/ld.so", path)
			for n := range len(whole) { // what is cut off is not guessed
				path, err := interpreterIn(t, whole[:n])
				assert.Error(t, err, n)
				assert.Empty(t, path, n)
			}
			change := func(at, n int) string {
				p := []byte(whole)
				order.PutUint16(p[at:], uint16(n))
				return string(p)
			}
			for name, data := range map[string]string{
				"no magic":          "x" + whole[1:],
				"no class":          whole[:4] + "\x00" + whole[5:],
				"no order":          whole[:5] + "\x03" + whole[6:],
				"no headers":        change(class.entries, 0),
				"too many headers":  change(class.entries, maxTable/int(class.entry)+1),
				"headers too large": change(class.entrySize, int(class.entry)+8),
				"no NUL":            whole[:len(whole)-1] + "x",
				"path too long":     elfProgram(class, order, 200, strings.Repeat("x", maxPath)),
				"path of no length": elfProgram(class, order, 200, ""),
			} {
				_, err := interpreterIn(t, data)
				assert.ErrorIs(t, err, errNotLoadable, name)
			}
			far := bytes.Repeat([]byte{0xff}, class.wordSize)
			p := []byte(whole)
			copy(p[class.tableOffset:], far)
			_, err = interpreterIn(t, string(p))
			assert.Error(t, err)
			p = []byte(whole)
			copy(p[200+int(class.entry)+class.segmentOffset:], far)
			_, err = interpreterIn(t, string(p))
			assert.Error(t, err)
			path, err = interpreterIn(t, change(class.entries, 1))
			assert.NoError(t, err, "linked statically")
			assert.Empty(t, path)
		}
	}
}

// A real program, as the standard library reads it.
func TestELFInterpreterOfAProgram(t *testing.T) {
	data, err := os.ReadFile("/bin/sh")
	if err != nil || !bytes.HasPrefix(data, []byte(elfMagic)) {
		t.Skip("no ELF program here")
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	require.NoError(t, err)
	var want string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			require.NoError(t, err)
			want = strings.TrimRight(string(b), "\x00")
		}
	}
	path, err := interpreterIn(t, string(data))
	require.NoError(t, err)
	assert.Equal(t, want, path)
}

func FuzzELFInterpreter(f *testing.F) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, class := range []elfClass{elf32, elf64} {
			f.Add(elfProgram(class, order, 80, "/ld"))
		}
	}
	f.Fuzz(func(t *testing.T, data string) {
		path, err := interpreterIn(t, data)
		if err != nil && path != "" || strings.Contains(path, "\x00") || !strings.Contains(data, path) {
			t.Fatalf("%q, %v", path, err)
		}
	})
}
