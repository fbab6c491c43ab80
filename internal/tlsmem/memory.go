package tlsmem

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"reflect"
	"unsafe"
)

const (
	// smallBlock holds the largest record of TLS 1.3, its header, and the space into which
	// crypto/tls reads ahead (bytes.MinRead). It is a size class of Go's allocator.
	smallBlock = 18 << 10
	// largeBlock holds a full output queue and what one more Write may add.
	largeBlock = 160 << 10
	// keptSmall and keptLarge bound how many blocks a Memory keeps: about 4 MiB in all.
	keptSmall, keptLarge = 128, 12
	// worthGivingBack is how few bytes are moved to a small buffer, so that the large one
	// can be given back.
	worthGivingBack = 1 << 10
)

// Memory keeps the buffers that idle connections have given back. It belongs to one event
// loop, whose connections share it.
type Memory struct {
	small, large [][]byte
}

// get returns an empty buffer with room for n bytes.
func (m *Memory) get(n int) []byte {
	list, size := &m.small, smallBlock
	if n > smallBlock {
		list, size = &m.large, max(largeBlock, n)
	}
	if last := len(*list) - 1; last >= 0 && cap((*list)[last]) >= n {
		b := (*list)[last]
		(*list)[last] = nil
		*list = (*list)[:last]
		return b
	}
	return make([]byte, 0, size)
}

// Put takes back a buffer that nobody uses any more. It keeps blocks, up to a number, and
// leaves other buffers to the garbage collector.
func (m *Memory) Put(b []byte) {
	switch {
	case cap(b) == smallBlock && len(m.small) < keptSmall:
		m.small = append(m.small, b[:0])
	case cap(b) == largeBlock && len(m.large) < keptLarge:
		m.large = append(m.large, b[:0])
	}
}

// Append appends more to b, which may be nil. If b is too small, Append takes a larger
// buffer and puts b back.
func (m *Memory) Append(b, more []byte) []byte {
	if len(b)+len(more) > cap(b) {
		wider := append(m.get(len(b)+len(more)), b...)
		m.Put(b)
		b = wider
	}
	return append(b, more...)
}

// layout has the offsets of the input buffers in a tls.Conn. crypto/tls never shrinks
// them: an idle connection would hold 16 KiB after one large record.
type layout struct {
	rawInput, hand uintptr
}

// fields is the layout of tls.Conn in this release of Go. It is valid if errFields is nil.
var fields, errFields = locate(reflect.TypeFor[tls.Conn]())

// CanGiveBack returns nil, or why idle connections can't give their buffers back. Each
// connection then costs up to 20 KiB more, so the caller should warn once.
func CanGiveBack() error { return errFields }

func locate(conn reflect.Type) (layout, error) {
	var l layout
	for name, at := range map[string]*uintptr{"rawInput": &l.rawInput, "hand": &l.hand} {
		f, ok := conn.FieldByName(name)
		switch {
		case !ok:
			return layout{}, fmt.Errorf("crypto/tls has no field %s in %v any more", name, conn)
		case f.Type != reflect.TypeFor[bytes.Buffer]():
			return layout{}, fmt.Errorf("crypto/tls has a field %s of type %v in %v, not bytes.Buffer", name, f.Type, conn)
		}
		*at = f.Offset
	}
	return l, nil
}

// bufferAt returns the buffer at offset in c. The offset must be one of fields. Only the
// goroutine that reads from c may call it.
func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lend gives crypto/tls a buffer from Memory to read records into.
func (c *Conn) lend() {
	if errFields != nil {
		return
	}
	if raw := bufferAt(c.tls, fields.rawInput); raw.Cap() < smallBlock {
		// Plaintext that wasn't read yet stays where it is: the old array isn't reused.
		*raw = *bytes.NewBuffer(append(c.mem.get(smallBlock), raw.Bytes()...))
	}
}

// holdsNoCiphertext reports whether it is certain that crypto/tls holds no ciphertext.
func (c *Conn) holdsNoCiphertext() bool {
	return errFields == nil && bufferAt(c.tls, fields.rawInput).Len() == 0
}

// giveBack takes back the buffers that crypto/tls doesn't need while it waits for input.
// If only a few bytes of an incomplete record are there, they move to a small buffer, so
// that a peer that stops inside a header doesn't occupy a large one. crypto/tls must hold
// no plaintext.
func (c *Conn) giveBack() {
	if errFields != nil {
		return
	}
	raw := bufferAt(c.tls, fields.rawInput)
	switch n := raw.Len(); {
	case n == 0 && raw.Cap() > 0:
		raw.Reset()
		c.mem.Put(raw.AvailableBuffer())
		*raw = bytes.Buffer{}
	case n > 0 && n < worthGivingBack && raw.Cap() > 2*worthGivingBack:
		own := bytes.NewBuffer(append([]byte(nil), raw.Bytes()...))
		raw.Reset()
		c.mem.Put(raw.AvailableBuffer())
		*raw = *own
	}
	if hand := bufferAt(c.tls, fields.hand); hand.Len() == 0 && hand.Cap() > 0 {
		*hand = bytes.Buffer{}
	}
}
