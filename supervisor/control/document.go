package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// document is the answer to a command, as pgagroal-cli prints it.
type document struct {
	Header   header
	Request  map[string]any
	Response json.RawMessage `json:",omitempty"`
	Outcome  outcome
}

type header struct {
	ClientVersion string
	Command       string
	Output        string
	Timestamp     string // YYYYMMDDhhmmss, local time
	Compression   string // none: the control socket never compresses
	Encryption    string // none: it never leaves the machine
}

// outcome is Time on success, Error and Message on failure.
type outcome struct {
	Status  bool
	Time    string `json:",omitempty"` // HH:MM:SS that the command took
	Error   int    `json:",omitempty"`
	Message string `json:",omitempty"`
}

// commonArgs may come with every command; they are only repeated in the Header.
var commonArgs = []string{"client_version", "output"}

// maxEcho is the length in bytes of an argument that is repeated in the Header.
const maxEcho = 64

func newDocument(name string, a args, now time.Time) *document {
	out := a["output"]
	if out != "json" && out != "raw" {
		out = "text"
	}
	return &document{
		Header: header{
			ClientVersion: cut(a["client_version"]),
			Command:       cut(name),
			Output:        out,
			Timestamp:     now.Format("20060102150405"),
			Compression:   "none",
			Encryption:    "none",
		},
		Request: a.echo(name),
	}
}

func cut(s string) string { return s[:min(len(s), maxEcho)] }

// echo returns the Request object of the document.
func (a args) echo(name string) map[string]any {
	r := map[string]any{}
	if name == "shutdown-gracefully" {
		r["Timeout"] = -1
	}
	if n, ok, err := a.number("timeout"); ok && err == nil {
		r["Timeout"] = n
	}
	if n, ok, err := a.number("count"); ok && err == nil {
		r["Count"] = n
	}
	if v, ok := a["server"]; ok {
		r["Server"] = v
	}
	if v, ok := a["key"]; ok {
		r["ConfigKey"] = v
	}
	if v, err := a.flag("force"); err == nil && v {
		r["Force"] = true
	}
	return r
}

// succeed completes the document of a command that took the given time.
func (d *document) succeed(response any, version string, took time.Duration) error {
	if response != nil {
		raw, err := withVersion(response, version)
		if err != nil {
			return err
		}
		d.Response = raw
	}
	s := int(took / time.Second)
	d.Outcome = outcome{Status: true, Time: fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)}
	return nil
}

func (d *document) fail(code int, message string) {
	d.Response = nil
	d.Outcome = outcome{Error: code, Message: message}
}

// withVersion encodes response, an object, with ServerVersion in it.
func withVersion(response any, version string) (json.RawMessage, error) {
	raw, err := encode(response)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("the response is not an object: %w", err)
	}
	if fields["ServerVersion"], err = encode(version); err != nil {
		return nil, err
	}
	return encode(fields)
}

// encode leaves <, > and & as they are: the document is read by people too.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
