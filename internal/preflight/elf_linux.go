package preflight

import (
	"encoding/binary"
	"errors"
	"math"
)

const elfMagic = "\x7fELF"

var errNotLoadable = errors.New("no ELF program that can be loaded")

// An elfClass says where the fields are that lead to the interpreter; see elf(5).
type elfClass struct {
	header, entry                        uint64 // sizes; of the file header, of a program header
	tableOffset, entrySize, entries      int    // in the file header
	segmentOffset, segmentSize, wordSize int    // in a program header
}

var (
	elf32 = elfClass{52, 32, 28, 42, 44, 4, 16, 4}
	elf64 = elfClass{64, 56, 32, 54, 56, 8, 32, 8}
)

// word reads a field that is as wide as an address.
func (c *elfClass) word(order binary.ByteOrder, p []byte) uint64 {
	if c.wordSize == 4 {
		return uint64(order.Uint32(p))
	}
	return order.Uint64(p)
}

const (
	elfInterp = 3       // PT_INTERP
	maxTable  = 1 << 16 // bytes of program headers that Linux loads
	maxPath   = 4096    // PATH_MAX, with the NUL
)

// elfInterpreter returns the path of the interpreter that the ELF program asks for, nil if it asks
// for none. read returns exactly size bytes of the program, at most 64 KiB; what it returned is not
// used after its next call. Which programs execve loads, and which of several interpreters it takes,
// is as in load_elf_binary of Linux; the class and the byte order are what the program says.
func elfInterpreter(read func(offset, size uint64) ([]byte, error)) ([]byte, error) {
	ident, err := read(0, 6)
	if err != nil {
		return nil, err
	}
	if string(ident[:4]) != elfMagic {
		return nil, errNotLoadable
	}
	var class *elfClass
	switch ident[4] {
	case 1:
		class = &elf32
	case 2:
		class = &elf64
	default:
		return nil, errNotLoadable
	}
	var order binary.ByteOrder
	switch ident[5] {
	case 1:
		order = binary.LittleEndian
	case 2:
		order = binary.BigEndian
	default:
		return nil, errNotLoadable
	}
	header, err := read(0, class.header)
	if err != nil {
		return nil, err
	}
	offset := class.word(order, header[class.tableOffset:])
	size := class.entry * uint64(order.Uint16(header[class.entries:]))
	if uint64(order.Uint16(header[class.entrySize:])) != class.entry || size == 0 || size > maxTable ||
		offset > math.MaxInt64-size {
		return nil, errNotLoadable
	}
	table, err := read(offset, size)
	if err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[class.entry:] {
		if order.Uint32(table) == elfInterp {
			return elfPath(read,
				class.word(order, table[class.segmentOffset:]), class.word(order, table[class.segmentSize:]))
		}
	}
	return nil, nil
}

// elfPath reads the path that ends with a NUL.
func elfPath(read func(offset, size uint64) ([]byte, error), offset, size uint64) ([]byte, error) {
	if size < 2 || size > maxPath || offset > math.MaxInt64-size {
		return nil, errNotLoadable
	}
	path, err := read(offset, size)
	if err != nil {
		return nil, err
	}
	if path[size-1] != 0 {
		return nil, errNotLoadable
	}
	for i, c := range path {
		if c == 0 {
			return path[:i], nil
		}
	}
	return nil, errNotLoadable
}
