package control

import (
	"slices"
	"strconv"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// maxEcho is the length in bytes of an argument that is repeated in the Header.
const maxEcho = 64

func newDocument(name string, a args, now time.Time) *control.Document {
	out := a[control.ArgOutput]
	if out != "json" && out != "raw" {
		out = "text"
	}
	return &control.Document{
		Header: control.Header{
			ClientVersion: cut(a[control.ArgClientVersion]),
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
func (a args) echo(name string) (r control.Request) {
	if name == control.ShutdownGracefully || name == control.Flush {
		r.Timeout = new(-1)
	}
	if mode := slices.Index(control.FlushModes, a[control.ArgMode]); mode >= 0 {
		r.Mode = &mode
	}
	if n, ok, err := a.number(control.ArgTimeout); ok && err == nil {
		r.Timeout = &n
	}
	if n, ok, err := a.number(control.ArgCount); ok && err == nil {
		r.Count = &n
	}
	if n, err := strconv.ParseUint(a[control.ArgAfter], 10, 64); err == nil {
		r.After = &n
	}
	r.Follow = a[control.ArgFollow] == "true"
	if id, err := a.client(); err == nil {
		r.ID = &id
	}
	if v, ok := a[control.ArgServer]; ok {
		r.Server = &v
	}
	if v, ok := a[control.ArgDatabase]; ok {
		r.Database = &v
	}
	if v, ok := a[control.ArgWorker]; ok {
		r.Worker = &v
	}
	if v, ok := a[control.ArgKey]; ok {
		r.ConfigKey = &v
	}
	if v, ok := a[control.ArgValue]; ok {
		r.ConfigValue = &v
	}
	r.Persist, _ = a.flag(control.ArgPersist)
	r.Force, _ = a.flag(control.ArgForce) // a bad value is not echoed; the command refuses it
	return r
}
