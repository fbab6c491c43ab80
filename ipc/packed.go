package ipc

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Packed is a structure in encoded form inside a message. A process that passes it on doesn't decode
// it.
type Packed []byte

// Pack encodes a structure with named fields.
func Pack(v any) (Packed, error) {
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.SetOmitEmpty(true)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("pack %T: %w", v, err)
	}
	return b.Bytes(), nil
}

// Unpack decodes p into v, as carefully as a whole message.
func (p Packed) Unpack(v any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("unpack %T: decoder: %v", v, r)
		}
	}()
	if err := wellFormed(p); err != nil {
		return fmt.Errorf("unpack %T: %w", v, err)
	}
	if err := msgpack.Unmarshal(p, v); err != nil {
		return fmt.Errorf("unpack %T: %w", v, err)
	}
	return nil
}
