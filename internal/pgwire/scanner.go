package pgwire

import (
	"encoding/binary"
	"math"
)

// The flow of a chunk through the Scanner:
//
//  1. Next looks at complete headers in one tight loop and skips the bodies of messages without an interest.
//  2. begin starts a message that has an interest or continues after the chunk.
//  3. body counts its body down, over as many chunks as it takes, and collects it if that was asked for.
//  4. splitHeader keeps a header that continues after the chunk, four bytes at most. joinHeader completes it with the
//     next chunk.

// Interest says what a Scanner reports about messages of one type; with zero it skips them.
type Interest uint8

const (
	// AtHeader asks for an event when the header is complete, before the body.
	AtHeader Interest = 1 << iota
	// AtEnd asks for an event when the message is complete.
	AtEnd
	// WithBody is AtEnd with the first MaxBody bytes of the body in the event.
	WithBody
	// Refuse makes a message of this type an error, because no honest peer sends it.
	Refuse
)

// MaxBody is how many bytes of a body an event holds at most.
const MaxBody = 1024

// Interests holds an Interest for each message type. Scanners only read it, so they can share one. Don't change it
// while Scanners use it.
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
	Start  int    // offset of the type byte; negative if it was in an earlier chunk
	Pos    int    // offset after the header or after the message, where the next call of Next continues
	Length int    // of the body, in bytes
	Body   []byte // at End, WithBody: the first MaxBody bytes; valid until the next call of Next or change of the chunk
}

// Status returns the transaction state of a ReadyForQuery that was reported WithBody, or zero if it is malformed.
func (e *Event) Status() byte {
	if len(e.Body) != 1 || e.Length != 1 {
		return 0
	}
	return e.Body[0]
}

// TypeError says that the peer sent a message of a refused type.
type TypeError struct{ Type byte }

func (e *TypeError) Error() string { return "invalid message type " + quoteByte(e.Type) }

// Scanner finds the messages in a stream of bytes that arrives in chunks, split anywhere. It stores no bodies beyond
// MaxBody, so messages may be as long as the protocol allows (2 GB).
//
// A Scanner belongs to one goroutine. It keeps no reference to a chunk. It allocates only when a chunk ends inside a
// message that is wanted WithBody, and then keeps that memory until Trim.
type Scanner struct {
	interests *Interests
	err       error
	kept      []byte // body so far of a message that is wanted WithBody and began in an earlier chunk
	start     int    // of the current message, relative to the current chunk
	left      int    // bytes of the current body still to come
	length    int    // of the current body
	inBody    bool
	typ       byte
	nHeader   uint8   // bytes in header
	header    [4]byte // incomplete header of a message that continues after the chunk
}

// NewScanner returns a Scanner for a stream that starts at a message boundary.
func NewScanner(in *Interests) Scanner { return Scanner{interests: in} }

// AtBoundary reports whether the bytes so far end with a complete message.
func (s *Scanner) AtBoundary() bool { return !s.inBody && s.nHeader == 0 && s.err == nil }

// SplitHeader returns how many bytes of an incomplete header the last chunk ended with, 0 to 4. A caller that drops
// whole messages from the stream must not pass these bytes on yet.
func (s *Scanner) SplitHeader() int { return int(s.nHeader) }

// Open returns the type of the message that continues after the last chunk, and how many of its bytes were scanned.
// Both are zero after a complete message. A caller that decides about whole messages must not pass these bytes on yet.
func (s *Scanner) Open() (typ byte, n int) {
	switch {
	case s.inBody:
		return s.typ, headerLen + s.length - s.left
	case s.nHeader > 0:
		return s.header[0], int(s.nHeader)
	}
	return 0, 0
}

// Trim releases the memory for bodies, unless a body is incomplete. It is for connections that become idle.
func (s *Scanner) Trim() {
	if len(s.kept) == 0 {
		s.kept = nil
	}
}

// Next finds the next event in chunk from offset pos on, stores it in ev, and returns the offset to continue at.
//
// Call it with pos 0 first and then with the returned offset until ev.Phase is Exhausted; then pass the next chunk.
// After an End event the rest of the chunk may also be passed later, as a chunk of its own. An error is a
// *LengthError or a *TypeError and is final, because there is no way to find the next message.
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
		// The subtraction turns lengths below 4 into huge ones. The length doesn't count the type byte.
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

// body consumes the part of the current body that is in the chunk.
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
		return s.Next(chunk, pos, ev) // at most once a chunk, because only a body from an earlier call ends here
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

// keep copies part, up to MaxBody bytes in all.
func (s *Scanner) keep(part []byte) {
	s.kept = append(s.kept, part[:min(len(part), MaxBody-len(s.kept))]...)
}

// splitHeader keeps the incomplete header at the end of the chunk, if there is one.
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
