package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Remote management: pgagroal-cli logs in to the management port as a PostgreSQL client would, with the database
// RemoteDatabase and SCRAM-SHA-256. After AuthenticationOk it sends one message, a command, and gets the pieces of the
// answer. Both are messages of the type RemoteMessage with a seal at their beginning: see Seal in package auth.

const (
	// RemoteDatabase is the database of a login to the management port.
	RemoteDatabase = "admin"
	// RemoteMessage is the type of the messages after the login.
	RemoteMessage = 'M'
	// MaxRemoteCommand is how long the body of a command may be in bytes.
	MaxRemoteCommand = 32 << 10
	// MaxRemoteArgs is how many arguments a command may have.
	MaxRemoteArgs = 16
	// PieceSize is how many bytes of an answer are sent at a time, locally and remotely. With what surrounds them
	// they fit into a packet of package ipc.
	PieceSize = 48 << 10
	// MaxRemoteReply is how long the body of a piece may be in bytes.
	MaxRemoteReply = sealSize + 1 + PieceSize
	sealSize       = 32
)

// RemoteCommand is a command of pgagroal-cli.
type RemoteCommand struct {
	Version int
	Command string
	Args    map[string]string
}

// Sealed returns what the seal of the command is made of. Different commands never give the same bytes.
func (c RemoteCommand) Sealed() []byte {
	text := binary.BigEndian.AppendUint32(nil, uint32(c.Version))
	add := func(s string) { text = append(binary.BigEndian.AppendUint32(text, uint32(len(s))), s...) }
	add(c.Command)
	for _, name := range slices.Sorted(maps.Keys(c.Args)) {
		add(name)
		add(c.Args[name])
	}
	return text
}

// Encode returns the body of the message. seal is that of Sealed.
func (c RemoteCommand) Encode(seal []byte) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the command: %w", err)
	}
	if len(seal)+len(text) > MaxRemoteCommand {
		return nil, fmt.Errorf("the command has more than %d bytes", MaxRemoteCommand)
	}
	return append(slices.Clone(seal), text...), nil
}

// ParseRemoteCommand reads the body of a command that anybody may have sent.
func ParseRemoteCommand(body []byte) (c RemoteCommand, seal []byte, err error) {
	if len(body) < sealSize || len(body) > MaxRemoteCommand {
		return c, nil, errors.New("it has a wrong length")
	}
	if err := json.Unmarshal(body[sealSize:], &c); err != nil {
		return c, nil, errors.New("it can't be read") // the decoder's words would quote it
	}
	if len(c.Args) > MaxRemoteArgs {
		return c, nil, errors.New("it has too many arguments")
	}
	return c, body[:sealSize], nil
}

// EncodeRemoteReply returns the body of the message with a piece of the answer.
func EncodeRemoteReply(seal []byte, last bool, piece []byte) []byte {
	body := make([]byte, 0, MaxRemoteReply)
	body = append(body, seal...)
	if last {
		return append(append(body, 1), piece...)
	}
	return append(append(body, 0), piece...)
}

// ParseRemoteReply reads the body of a piece of the answer.
func ParseRemoteReply(body []byte) (seal []byte, last bool, piece []byte, err error) {
	if len(body) <= sealSize || body[sealSize] > 1 {
		return nil, false, nil, errors.New("a piece of the answer can't be read")
	}
	return body[:sealSize], body[sealSize] == 1, body[sealSize+1:], nil
}
