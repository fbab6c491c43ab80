package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxDepth is far more than any message needs.
const maxDepth = 16

var (
	errShort = errors.New("ends too early")
	errDepth = errors.New("nested too deeply")
)

// wellFormed checks that b is exactly one msgpack map with string keys, before the decoder sees it.
// The decoder believes declared lengths: for an array of 2^32 structs in a packet of sixteen bytes
// it would allocate all memory at once, and the process would die. wellFormed requires that every
// declared element has its bytes.
func wellFormed(b []byte) error {
	if len(b) == 0 {
		return errShort
	}
	if kind, _, _ := shape(b[0]); kind != kindMap {
		return errors.New("not a map")
	}
	rest, err := skip(b, 0)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes after the message", len(rest))
	}
	return nil
}

type kind uint8

const (
	kindBad kind = iota
	kindPlain
	kindString
	kindArray
	kindMap
)

// skip returns the rest of b after its first value.
func skip(b []byte, depth int) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	if depth > maxDepth {
		return nil, errDepth
	}
	code := b[0]
	k, n, wide := shape(code)
	b = b[1:]
	if wide > 0 {
		if len(b) < wide {
			return nil, errShort
		}
		n, b = length(b[:wide]), b[wide:]
	}
	switch k {
	case kindPlain, kindString:
		if len(b) < n {
			return nil, errShort
		}
		return b[n:], nil
	case kindArray:
		return skipElements(b, n, false, depth)
	case kindMap:
		return skipElements(b, n, true, depth)
	}
	return nil, fmt.Errorf("code %#x is not used", code)
}

func skipElements(b []byte, n int, keys bool, depth int) ([]byte, error) {
	for ; n > 0; n-- {
		var err error
		if keys {
			if len(b) == 0 {
				return nil, errShort
			}
			if k, _, _ := shape(b[0]); k != kindString {
				return nil, errors.New("a key is not a string")
			}
			if b, err = skip(b, depth+1); err != nil {
				return nil, err
			}
		}
		if b, err = skip(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// shape returns what follows a code of the msgpack specification: n bytes or elements, or a number
// of wide bytes that says how many. Extensions are not used.
func shape(code byte) (k kind, n, wide int) {
	switch {
	case code <= 0x7f || code >= 0xe0: // fixint
		return kindPlain, 0, 0
	case code <= 0x8f:
		return kindMap, int(code & 0x0f), 0
	case code <= 0x9f:
		return kindArray, int(code & 0x0f), 0
	case code <= 0xbf:
		return kindString, int(code & 0x1f), 0
	}
	switch code {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return kindPlain, 0, 0
	case 0xc4, 0xc5, 0xc6: // bin
		return kindPlain, 0, 1 << (code - 0xc4)
	case 0xca, 0xcb: // float
		return kindPlain, 4 << (code - 0xca), 0
	case 0xcc, 0xcd, 0xce, 0xcf: // uint
		return kindPlain, 1 << (code - 0xcc), 0
	case 0xd0, 0xd1, 0xd2, 0xd3: // int
		return kindPlain, 1 << (code - 0xd0), 0
	case 0xd9, 0xda, 0xdb: // str
		return kindString, 0, 1 << (code - 0xd9)
	case 0xdc, 0xdd: // array
		return kindArray, 0, 2 << (code - 0xdc)
	case 0xde, 0xdf: // map
		return kindMap, 0, 2 << (code - 0xde)
	}
	return kindBad, 0, 0
}

func length(b []byte) int {
	switch len(b) {
	case 1:
		return int(b[0])
	case 2:
		return int(binary.BigEndian.Uint16(b))
	}
	return int(binary.BigEndian.Uint32(b))
}
