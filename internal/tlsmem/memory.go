package tlsmem

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"reflect"
	"unsafe"
)

const (
	// smallBlock holds the greatest record of TLS 1.3 with its header and the room that
	// crypto/tls reads ahead (bytes.MinRead); it is a size class of Go's allocator.
	smallBlock = 18 << 10
	// largeBlock holds a full output queue and what one more Write may add.
	largeBlock = 160 << 10
	// keptSmall and keptLarge bound what a Memory keeps: about 4 MiB.
	keptSmall, keptLarge = 128, 12
	// worthGivingBack is the least capacity whose return is worth its cost.
	worthGivingBack = 1 << 10
)

// Memory keeps the buffers that connections give back while they are idle. It
// belongs to one event loop and is shared by the connections of that loop.
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

// put takes a buffer that nobody uses any more. Buffers of other sizes than get
// hands out are left to the garbage collector.
func (m *Memory) put(b []byte) {
	switch {
	case cap(b) == smallBlock && len(m.small) < keptSmall:
		m.small = append(m.small, b[:0])
	case cap(b) == largeBlock && len(m.large) < keptLarge:
		m.large = append(m.large, b[:0])
	}
}

// grow appends more to b, whose array it replaces by a larger one when needed.
func (m *Memory) grow(b, more []byte) []byte {
	if len(b)+len(more) > cap(b) {
		wider := append(m.get(len(b)+len(more)), b...)
		m.put(b)
		b = wider
	}
	return append(b, more...)
}

// layout is where a tls.Conn keeps its buffers of input. crypto/tls never shrinks
// them: without a reset, an idle connection holds 16 KiB after one large record.
type layout struct {
	rawInput, hand uintptr
}

// fields is the layout of this Go release's tls.Conn; errFields says why there is none.
var fields, errFields = locate(reflect.TypeFor[tls.Conn]())

// CanGiveBack says why buffers of idle connections can't be given back, or nil. The
// caller warns once: each connection then costs up to 20 KiB more.
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

// bufferAt returns the buffer at offset in c. Only for offsets of fields, and only
// on the goroutine that reads from c.
func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lend gives crypto/tls a buffer of ours to read records into.
func (c *Conn) lend() {
	if errFields != nil {
		return
	}
	if raw := bufferAt(c.tls, fields.rawInput); raw.Cap() < smallBlock {
		// Plaintext that wasn't read yet stays where it is: the old array isn't reused.
		*raw = *bytes.NewBuffer(append(c.mem.get(smallBlock), raw.Bytes()...))
	}
}

// readsNothing says for certain that crypto/tls holds no ciphertext.
func (c *Conn) readsNothing() bool {
	return errFields == nil && bufferAt(c.tls, fields.rawInput).Len() == 0
}

// giveBack takes the buffers that crypto/tls doesn't need while it waits. A few bytes
// of an incomplete record move to a buffer of their own size, so that a peer who stops
// in the middle of a header doesn't hold a large one. crypto/tls must hold no plaintext.
func (c *Conn) giveBack() {
	if errFields != nil {
		return
	}
	raw := bufferAt(c.tls, fields.rawInput)
	switch n := raw.Len(); {
	case n == 0 && raw.Cap() > 0:
		raw.Reset()
		c.mem.put(raw.AvailableBuffer())
		*raw = bytes.Buffer{}
	case n > 0 && n < worthGivingBack && raw.Cap() > 2*worthGivingBack:
		own := bytes.NewBuffer(append([]byte(nil), raw.Bytes()...))
		raw.Reset()
		c.mem.put(raw.AvailableBuffer())
		*raw = *own
	}
	if hand := bufferAt(c.tls, fields.hand); hand.Len() == 0 && hand.Cap() > 0 {
		*hand = bytes.Buffer{}
	}
}
