package pgwire

import (
	"encoding/binary"
	"math"
)

// The flow of a chunk through the Scanner:
//
//  1. Next looks at complete headers in one tight loop and skips the bodies of messages without an interest.
//  2. A message with an interest, or that continues after the chunk, is begun (begin).
//  3. Its body is counted down and, if asked for, collected (body), over as many chunks as it takes.
//  4. A header that continues after the chunk is kept, four bytes at most (splitHeader), and completed by the next chunk.

// Interest says what a Scanner reports about messages of one type; with zero it skips them.
type Interest uint8

const (
	// AtHeader asks for an event when the header is complete, before the body has come.
	AtHeader Interest = 1 << iota
	// AtEnd asks for an event when the last byte has come.
	AtEnd
	// WithBody is AtEnd with the first MaxBody bytes of the body in the event.
	WithBody
	// Refuse makes a message of this type an error: the stream is out of step, or the peer hostile.
	Refuse
)

// MaxBody is how many bytes of a body an event holds at most.
const MaxBody = 1024

// Interests holds an Interest for each message type. It is read only while Scanners use it, so all can share one.
type Interests [256]Interest

// Set sets the interest in each of types.
func (in *Interests) Set(interest Interest, types ...byte) {
	for _, t := range types {
		in[t] = interest
	}
}

// RefuseOthers refuses every type that isn't in known and has no interest set.
func (in *Interests) RefuseOthers(known string) {
	var isKnown [256]bool
	for _, t := range []byte(known) {
		isKnown[t] = true
	}
	for t := range in {
		if !isKnown[t] && in[t] == 0 {
			in[t] = Refuse
		}
	}
}

// Message types of protocol 3 after authentication, by sender.
const (
	FrontendTypes = "BCDEFHPQSXcdf"
	BackendTypes  = "123ACDEGHIKNSTVWZcdnstv"
)

// Phase says what an Event reports.
type Phase uint8

const (
	// Exhausted is no event: the chunk has been used up.
	Exhausted Phase = iota
	// Header reports that the type and length of a message are known.
	Header
	// End reports that a message is complete.
	End
)

// Event is something found in a chunk. Offsets are relative to the chunk given to Next.
type Event struct {
	Type   byte
	Phase  Phase
	Start  int    // offset of the type byte; below zero when it came with an earlier chunk
	Pos    int    // offset after the header or after the message: where the next call of Next goes on
	Length int    // of the body, bytes
	Body   []byte // first MaxBody bytes, if asked for, at End; valid until the next call of Next or use of the chunk
}

// Status returns the transaction state that a ReadyForQuery reports WithBody, or zero for a malformed one.
func (e *Event) Status() byte {
	if len(e.Body) != 1 || e.Length != 1 {
		return 0
	}
	return e.Body[0]
}

// TypeError says that a message of a refused type came.
type TypeError struct{ Type byte }

func (e *TypeError) Error() string { return "invalid message type " + quoteByte(e.Type) }

// Scanner finds the messages in a stream of bytes that comes in chunks, split anywhere. It stores no bodies,
// so messages may be as long as the protocol allows (2 GB).
//
// A Scanner belongs to one goroutine. It retains no chunk. It allocates only when a chunk ends inside a message
// that is wanted WithBody, and then keeps that memory for the next one until Trim.
type Scanner struct {
	interests *Interests
	err       error
	kept      []byte // the body so far of a wanted message that began in an earlier chunk
	start     int    // of the current message, relative to the current chunk
	left      int    // bytes of the current body still to come
	length    int    // of the current body
	inBody    bool
	typ       byte
	nHeader   uint8   // bytes in header
	header    [4]byte // incomplete header of a message that continues after the chunk
}

// NewScanner returns a Scanner that stands at the beginning of a message.
func NewScanner(in *Interests) Scanner { return Scanner{interests: in} }

// AtBoundary reports whether the bytes so far end with a complete message.
func (s *Scanner) AtBoundary() bool { return !s.inBody && s.nHeader == 0 && s.err == nil }

// SplitHeader returns how many bytes of an incomplete header the last chunk ended with, 0 to 4. A caller that drops
// whole messages from the stream must hold these back.
func (s *Scanner) SplitHeader() int { return int(s.nHeader) }

// Open returns the type of the message that continues after the last chunk, and how many of its bytes have come; none
// after a complete message. A caller that decides about whole messages must hold these back.
func (s *Scanner) Open() (typ byte, n int) {
	switch {
	case s.inBody:
		return s.typ, headerLen + s.length - s.left
	case s.nHeader > 0:
		return s.header[0], int(s.nHeader)
	}
	return 0, 0
}

// Trim releases the memory kept for bodies, unless a body is incomplete; for connections that become idle.
func (s *Scanner) Trim() {
	if len(s.kept) == 0 {
		s.kept = nil
	}
}

// Next finds the next event in chunk from offset pos on, stores it in ev, and returns where to go on.
//
// Call it with pos 0 first and then with what it returned, until ev.Phase is Exhausted; then go on with the next
// chunk. After an End event the rest of a chunk may as well be given as a chunk of its own later. An error is a
// *LengthError or a *TypeError and stays: there is no way to find the next message.
func (s *Scanner) Next(chunk []byte, pos int, ev *Event) (int, error) {
	if s.inBody {
		return s.body(chunk, pos, ev)
	}
	if s.nHeader > 0 {
		return s.joinHeader(chunk, pos, ev)
	}
	for len(chunk)-pos >= headerLen && s.err == nil {
		typ := chunk[pos]
		length := binary.BigEndian.Uint32(chunk[pos+1 : pos+headerLen])
		// Lengths below 4 wrap to huge ones; the type byte isn't counted in them.
		if s.interests[typ] == 0 && length-4 <= math.MaxInt32-4 && int(length) < len(chunk)-pos {
			pos += 1 + int(length)
			continue
		}
		s.start = pos
		return s.begin(typ, length, chunk, pos+headerLen, ev)
	}
	if s.err != nil {
		*ev = Event{}
		return pos, s.err
	}
	return s.splitHeader(chunk, pos, ev), nil
}

// begin starts a message whose header is complete; pos is the offset of its body.
func (s *Scanner) begin(typ byte, length uint32, chunk []byte, pos int, ev *Event) (int, error) {
	if length-4 > math.MaxInt32-4 {
		s.err = &LengthError{Type: typ, Length: int32(length), Max: math.MaxInt32}
	} else if s.interests[typ]&Refuse != 0 {
		s.err = &TypeError{Type: typ}
	}
	if s.err != nil {
		*ev = Event{}
		return pos, s.err
	}
	s.typ, s.length, s.inBody = typ, int(length)-4, true
	s.left = s.length
	if s.interests[typ]&AtHeader != 0 {
		*ev = Event{Type: typ, Phase: Header, Start: s.start, Pos: pos, Length: s.length}
		return pos, nil
	}
	return s.body(chunk, pos, ev)
}

// body takes what the chunk holds of the current body.
func (s *Scanner) body(chunk []byte, pos int, ev *Event) (int, error) {
	part := chunk[pos:min(len(chunk), pos+s.left)]
	interest := s.interests[s.typ]
	s.left -= len(part)
	pos += len(part)
	if s.left > 0 {
		if interest&WithBody != 0 {
			s.keep(part)
		}
		s.start -= len(chunk)
		*ev = Event{}
		return pos, nil
	}
	s.inBody = false
	if interest&(AtEnd|WithBody) == 0 {
		return s.Next(chunk, pos, ev) // at most once a chunk: only a body that an earlier call left ends here
	}
	*ev = Event{Type: s.typ, Phase: End, Start: s.start, Pos: pos, Length: s.length}
	if interest&WithBody != 0 {
		ev.Body = part[:min(len(part), MaxBody)]
		if len(part) < s.length {
			s.keep(part)
			ev.Body = s.kept
		}
		s.kept = s.kept[:0]
	}
	return pos, nil
}

// keep copies what fits of part; wanted bodies are small, so memory grows with need.
func (s *Scanner) keep(part []byte) {
	s.kept = append(s.kept, part[:min(len(part), MaxBody-len(s.kept))]...)
}

// splitHeader keeps the beginning of a header that the chunk ends in.
func (s *Scanner) splitHeader(chunk []byte, pos int, ev *Event) int {
	if pos < len(chunk) {
		s.start = pos - len(chunk)
		s.nHeader = uint8(copy(s.header[:], chunk[pos:]))
	}
	*ev = Event{}
	return len(chunk)
}

// joinHeader completes a header with the beginning of the chunk.
func (s *Scanner) joinHeader(chunk []byte, pos int, ev *Event) (int, error) {
	have := int(s.nHeader)
	if have+len(chunk)-pos < headerLen {
		s.nHeader += uint8(copy(s.header[have:], chunk[pos:]))
		s.start -= len(chunk)
		*ev = Event{}
		return len(chunk), nil
	}
	var h [headerLen]byte
	copy(h[:], s.header[:have])
	pos += copy(h[have:], chunk[pos:])
	s.nHeader = 0
	return s.begin(h[0], binary.BigEndian.Uint32(h[1:]), chunk, pos, ev)
}

func quoteByte(b byte) string {
	const hex = "0123456789abcdef"
	if b > ' ' && b < 0x7f {
		return "'" + string(rune(b)) + "'"
	}
	return "0x" + string([]byte{hex[b>>4], hex[b&15]})
}
