package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const headerLen = 5 // type byte and length

// LengthError says that a message declares a length that is impossible or larger than the reader allows.
type LengthError struct {
	Type   byte  // zero for a first packet, which has no type
	Length int32 // declared length in bytes, which includes the length field
	Max    int32 // greatest length that the reader allows
}

func (e *LengthError) Error() string {
	if e.Type == 0 {
		return fmt.Sprintf("first packet declares a length of %d bytes, allowed are 8 to %d", e.Length, e.Max)
	}
	return fmt.Sprintf("message %q declares a length of %d bytes, allowed are 4 to %d", e.Type, e.Length, e.Max)
}

// firstPiece is how many bytes of a body ReadMessage makes room for at once.
const firstPiece = 8 << 10

// ReadMessage reads one message from r, and not a byte more. It refuses a body of more than maxBody bytes. It makes room
// for a long body only as the body arrives, because a peer may declare one and send nothing.
//
// The body is a new slice that belongs to the caller. io.EOF means that r ended between messages, and
// io.ErrUnexpectedEOF that it ended inside one.
func ReadMessage(r io.Reader, maxBody int) (typ byte, body []byte, err error) {
	var header [headerLen]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	typ = header[0]
	length := int32(binary.BigEndian.Uint32(header[1:]))
	limit := int32(min(int64(maxBody)+4, math.MaxInt32))
	if length < 4 || length > limit {
		return typ, nil, &LengthError{Type: typ, Length: length, Max: limit}
	}
	size := int(length) - 4
	body = make([]byte, min(size, firstPiece))
	for have := 0; ; {
		if err := readRest(r, body[have:]); err != nil {
			return typ, nil, err
		}
		if have = len(body); have == size {
			return typ, body, nil
		}
		longer := make([]byte, min(size, 2*have))
		copy(longer, body)
		body = longer
	}
}

// readRest fills buf. It reports any end of r as unexpected, even before the first byte.
func readRest(r io.Reader, buf []byte) error {
	_, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
