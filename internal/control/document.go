package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Document answers a command. Its members and those of the responses are printed in the
// order of these types.
type Document struct {
	Header   Header
	Request  Request
	Response json.RawMessage `json:",omitempty"` // absent after a failure
	Outcome  Outcome
}

// Header repeats the request.
type Header struct {
	ClientVersion string
	Command       string
	Output        string
	Timestamp     string // YYYYMMDDhhmmss, local time
	Compression   string // always none: the control socket never compresses
	Encryption    string // always none: the control socket is local
}

// Request contains the arguments that were given.
type Request struct {
	Server    *string `json:",omitempty"`
	Database  *string `json:",omitempty"`
	Mode      *int    `json:",omitempty"` // of Flush: an index of FlushModes
	Force     bool    `json:",omitempty"`
	Timeout   *int    `json:",omitempty"` // seconds; -1 for ShutdownGracefully and Flush without ArgTimeout
	Count     *int    `json:",omitempty"`
	After     *uint64 `json:",omitempty"` // of Events
	Follow    bool    `json:",omitempty"` // of Events
	ID        *uint64 `json:",omitempty"` // of Kick
	Worker    *string `json:",omitempty"` // of WorkerRecycle: a process id, or AllWorkers
	ConfigKey *string `json:",omitempty"`
	// ConfigValue and Persist belong to ConfSet.
	ConfigValue *string `json:",omitempty"`
	Persist     bool    `json:",omitempty"`
}

// Outcome says whether the command succeeded. Success sets Time, failure sets Error and
// Message.
type Outcome struct {
	Status  bool
	Time    string `json:",omitempty"` // how long the command took, HH:MM:SS
	Error   int    `json:",omitempty"`
	Message string `json:",omitempty"`
}

// Succeed completes the document of a successful command. response is a response of this
// package, or nil. version is that of pgagroal. took is how long the command took.
func (d *Document) Succeed(response any, version string, took time.Duration) error {
	if response != nil {
		raw, err := withVersion(response, version)
		if err != nil {
			return err
		}
		d.Response = raw
	}
	s := int(took / time.Second)
	d.Outcome = Outcome{Status: true, Time: fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)}
	return nil
}

// Fail completes the document of a failed command.
func (d *Document) Fail(code int, message string) {
	d.Response = nil
	d.Outcome = Outcome{Error: code, Message: message}
}

// withVersion encodes response, which must become an object, with ServerVersion as its
// first member.
func withVersion(response any, version string) (json.RawMessage, error) {
	head, err := Encode(struct{ ServerVersion string }{version})
	if err != nil {
		return nil, err
	}
	raw, err := Encode(response)
	switch {
	case err != nil:
		return nil, err
	case len(raw) < 2 || raw[0] != '{':
		return nil, fmt.Errorf("the response %T is not an object", response)
	case len(raw) == 2:
		return head, nil
	}
	head[len(head)-1] = ','
	return append(head, raw[1:]...), nil
}

// Encode returns v as JSON. It doesn't escape <, > and &, because people read the
// document, too.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
