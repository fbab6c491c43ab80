package pgwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Request codes, which a first packet has in place of a protocol version.
const (
	codeCancel = 1234<<16 | 5678
	codeSSL    = 1234<<16 | 5679
	codeGSSENC = 1234<<16 | 5680
)

const (
	// maxStartupBody is PostgreSQL's MAX_STARTUP_PACKET_LENGTH, which doesn't count the length field.
	maxStartupBody = 10000
	// Cancel keys have 4 bytes in protocol 3.0 and up to 256 in 3.2.
	minCancelKey, maxCancelKey = 4, 256
	// tlsHandshake is the first byte of a TLS connection. No valid length begins with it.
	tlsHandshake = 0x16
	// protocolOption is the prefix of parameters that ask for protocol extensions.
	protocolOption = "_pq_."
	// replicationParam is the parameter that asks for a replication connection.
	replicationParam = "replication"
)

// StartupKind tells the first packets of a connection apart.
type StartupKind uint8

// The first packets a client may send.
const (
	StartupMessage StartupKind = iota + 1
	SSLRequest
	GSSENCRequest
	CancelRequest
)

func (k StartupKind) String() string {
	names := [...]string{"none", "StartupMessage", "SSLRequest", "GSSENCRequest", "CancelRequest"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("StartupKind(%d)", uint8(k))
}

// AsVersion returns the error for an SSLRequest or GSSENCRequest that comes too late. As in PostgreSQL, its code then
// counts as an unsupported protocol version.
func (k StartupKind) AsVersion() error {
	code := uint32(codeSSL)
	if k == GSSENCRequest {
		code = codeGSSENC
	}
	return refuseVersion(uint16(code>>16), uint16(code))
}

func refuseVersion(major, minor uint16) error { return RefusalVersion.With(major, minor, NewestMinor) }

// Param is one start-up parameter, as sent.
type Param struct{ Name, Value string }

// Startup is the first packet of a connection; which fields are set depends on Kind.
type Startup struct {
	Kind         StartupKind
	Major, Minor uint16  // of a StartupMessage: Major is 3, Minor is the version that the client asked for
	PID          uint32  // of a CancelRequest
	Key          []byte  // of a CancelRequest, 4 to 256 bytes; a secret
	Params       []Param // of a StartupMessage: all of them, user and database included, in the client's order
	User         string  // never empty in a StartupMessage
	Database     string  // the user's name when the client named none
}

// NewestMinor is the newest minor version of protocol 3 that pgagroal speaks to clients.
const NewestMinor = 2

// SpeaksLongKeys reports whether a minor version allows cancel keys of more than 4 bytes.
func SpeaksLongKeys(minor uint16) bool { return minor >= 2 }

// Replication reports whether the client asks for a replication connection, with "database" or any spelling of true.
// Another value that isn't a boolean is an error, as in PostgreSQL.
func (s Startup) Replication() (bool, error) {
	for _, p := range s.Params {
		if p.Name != replicationParam {
			continue
		}
		yes, ok := parseBool(p.Value)
		if !ok && p.Value != "database" {
			return false, RefusalReplicationValue.With(p.Value)
		}
		return yes || !ok, nil
	}
	return false, nil
}

// parseBool reads a boolean as PostgreSQL does: it accepts abbreviations, in upper or lower case.
func parseBool(v string) (value, ok bool) {
	v = strings.ToLower(v)
	switch {
	case v == "":
		return false, false
	case strings.HasPrefix("true", v), strings.HasPrefix("yes", v), v == "on", v == "1":
		return true, true
	case strings.HasPrefix("false", v), strings.HasPrefix("no", v), v == "of", v == "off", v == "0":
		return false, true
	}
	return false, false
}

// ProtocolOptions returns the names of the protocol extensions that the client asks for.
func (s Startup) ProtocolOptions() []string {
	var names []string
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, protocolOption) {
			names = append(names, p.Name)
		}
	}
	return names
}

// TLSError says that a client began a TLS handshake without an SSLRequest. Begun are the bytes that were read of it.
type TLSError struct{ Begun []byte }

func (e *TLSError) Error() string { return "TLS without an SSLRequest, and TLS is not offered" }

// ReadStartup reads the first packet of a connection, or the next one after an answered SSLRequest or
// GSSENCRequest, and not a byte more.
//
// Its errors are *LengthError, *Refused, *TLSError or those of r; io.EOF means that r ended before
// the first byte. ReadStartup allocates at most about 10 KB for a packet, whatever length the peer declares.
func ReadStartup(r io.Reader) (Startup, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Startup{}, err
	}
	if header[0] == tlsHandshake {
		return Startup{}, &TLSError{Begun: header[:]}
	}
	length := int32(binary.BigEndian.Uint32(header[:]))
	if length < 8 || length > maxStartupBody+4 {
		return Startup{}, &LengthError{Length: length, Max: maxStartupBody + 4}
	}
	body := make([]byte, length-4)
	if err := readRest(r, body); err != nil {
		return Startup{}, err
	}
	return parseStartup(body)
}

func parseStartup(body []byte) (Startup, error) {
	code, rest := binary.BigEndian.Uint32(body), body[4:]
	major, minor := uint16(code>>16), uint16(code)
	switch {
	case code == codeSSL:
		return Startup{Kind: SSLRequest}, nil // PostgreSQL, too, ignores the rest of the packet
	case code == codeGSSENC:
		return Startup{Kind: GSSENCRequest}, nil
	case code == codeCancel:
		return parseCancel(rest)
	case major != 3:
		return Startup{}, refuseVersion(major, minor)
	}
	s := Startup{Kind: StartupMessage, Major: major, Minor: minor}
	return s, s.parseParams(rest)
}

func parseCancel(rest []byte) (Startup, error) {
	if len(rest) < 4+minCancelKey || len(rest) > 4+maxCancelKey {
		return Startup{}, &LengthError{Length: int32(8 + len(rest)), Max: 8 + 4 + maxCancelKey}
	}
	return Startup{Kind: CancelRequest, PID: binary.BigEndian.Uint32(rest), Key: rest[4:]}, nil
}

// parseParams reads names and values up to the empty name, which must be the packet's last byte.
//
// If a name occurs twice, PostgreSQL uses the last value. parseParams refuses the packet, so that no later code can
// check the first value and use the last.
func (s *Startup) parseParams(rest []byte) error {
	seen := make(map[string]bool)
	for {
		name, after, ok := cutString(rest)
		if !ok {
			return RefusalUnterminated.With()
		}
		if name == "" {
			rest = after
			break
		}
		value, after, ok := cutString(after)
		if !ok {
			return RefusalNoValue.With()
		}
		if seen[name] {
			return RefusalTwice.With()
		}
		seen[name] = true
		s.Params = append(s.Params, Param{Name: name, Value: value})
		rest = after
	}
	if len(rest) != 0 {
		return RefusalUnterminated.With()
	}
	return s.name()
}

// name sets User and Database.
func (s *Startup) name() error {
	for _, p := range s.Params {
		switch p.Name {
		case "user":
			s.User = p.Value
		case "database":
			s.Database = p.Value
		}
	}
	if s.User == "" {
		return RefusalNoUser.With()
	}
	if s.Database == "" {
		s.Database = s.User
	}
	return nil
}

// cutString splits b after its first zero byte.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", nil, false
	}
	return string(b[:i]), b[i+1:], true
}
