package relay

import (
	"bytes"
	"sort"
	"strings"
	"unique"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// tracked are the parameters that follow a client from backend to backend in the
// transaction pipeline. The server reports each change of them.
var tracked = [...]string{
	"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings",
}

func isTracked(name string) bool {
	for _, t := range tracked {
		if strings.EqualFold(t, name) {
			return true
		}
	}
	return false
}

// follows reports whether a start-up parameter is set with SET on each backend that
// the client gets. All other start-up parameters are part of the pool's key, so that
// the backend's own login has set them: only then do RESET, SET TO DEFAULT and
// DISCARD ALL return to what the client has asked for. application_name follows in
// each pipeline, because it is only a label, and as part of the key it would make many
// pools.
func follows(name, pipeline string) bool {
	if pipeline == "transaction" {
		return isTracked(name)
	}
	return strings.EqualFold(name, "application_name")
}

// Params are parameters with their values, as a server reported them or as a
// client asked for them at start-up. Names compare without regard to case.
type Params struct {
	list []pgwire.Param
	// changed and othersChanged: tracked and others are out of date.
	changed, othersChanged bool
	tracked                unique.Handle[settings]
	others                 unique.Handle[string]
}

// Get returns the value of a parameter.
func (p *Params) Get(name string) (string, bool) {
	for i := range p.list {
		if strings.EqualFold(p.list[i].Name, name) {
			return p.list[i].Value, true
		}
	}
	return "", false
}

// Set sets a parameter.
func (p *Params) Set(name, value string) {
	if isTracked(name) {
		p.changed = true
	} else {
		p.othersChanged = true
	}
	for i := range p.list {
		if strings.EqualFold(p.list[i].Name, name) {
			p.list[i].Value = value
			return
		}
	}
	p.list = append(p.list, pgwire.Param{Name: name, Value: value})
}

// Clone returns a copy.
func (p *Params) Clone() Params {
	return ParamsOf(append([]pgwire.Param(nil), p.list...))
}

// Reported sets what the body of a ParameterStatus says.
func (p *Params) Reported(body []byte) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok {
		return
	}
	value, _, _ := bytes.Cut(rest, []byte{0})
	if old, ok := p.Get(string(name)); ok && old == string(value) {
		return
	}
	p.Set(string(name), string(value))
}

// AppendTo appends all of them as ParameterStatus messages.
func (p *Params) AppendTo(dst []byte) []byte {
	for i := range p.list {
		dst = pgwire.AppendParameterStatus(dst, p.list[i].Name, p.list[i].Value)
	}
	return dst
}

// SplitStartup splits a client's start-up parameters: follow are the parameters that
// follow the client, rest all others, and key is the canonical form of rest for the
// pool's key.
func SplitStartup(in []pgwire.Param, pipeline string) (follow Params, key string, rest []pgwire.Param) {
	for _, p := range in {
		switch {
		case p.Name == "user" || p.Name == "database" || p.Name == "replication" || strings.HasPrefix(p.Name, "_pq_."):
			// Said elsewhere, or meant for the pool. Only "replication = off" comes here.
		case follows(p.Name, pipeline):
			follow.Set(p.Name, p.Value)
		default:
			rest = append(rest, p)
		}
	}
	sort.SliceStable(rest, func(i, j int) bool {
		return strings.ToLower(rest[i].Name) < strings.ToLower(rest[j].Name)
	})
	var b strings.Builder
	for _, p := range rest {
		b.WriteString(strings.ToLower(p.Name) + "=" + p.Value + "\x00")
	}
	return follow, b.String(), rest
}

// adapt returns the SQL that gives a backend the tracked parameters that a client
// wants, empty when nothing differs. base are the backend's parameters after its
// login, now its current ones.
func adapt(want, base, now *Params) string {
	var sql strings.Builder
	for _, name := range tracked {
		v, ok := want.Get(name)
		if !ok {
			v, ok = base.Get(name)
		}
		have, known := now.Get(name)
		if !ok || !known && v == "" || known && v == have {
			continue
		}
		sql.WriteString("SET " + name + " TO " + literal(v) + ";")
	}
	return sql.String()
}

// reported takes the body of a ParameterStatus, and notes in resets that a tracked
// parameter is back at the value of the backend's own login.
func (b *Backend) reported(body []byte) {
	b.Params.Reported(body)
	for _, name := range tracked {
		if bytes.HasPrefix(body, append([]byte(name), 0)) && b.atBase(name) {
			b.resets = true
		}
	}
}

// atBase reports whether a parameter has its value of the backend's own login.
func (b *Backend) atBase(name string) bool {
	now, _ := b.Params.Get(name)
	base, _ := b.Base.Get(name)
	return now == base
}

// restore returns the SQL that Restore of a conversation returns. own returns the value
// of a tracked parameter that the client began with.
//
// The server resets a parameter to the value of the backend's own login. The client may
// also have set that very value, which then stays; only the server can tell, and so it
// decides.
func (b *Backend) restore(own func(i int) (string, bool)) string {
	if !b.resets {
		return ""
	}
	b.resets = false
	var sql strings.Builder
	for i, name := range tracked {
		v, ok := own(i)
		if now, _ := b.Params.Get(name); !ok || v == now || !b.atBase(name) {
			continue
		}
		sql.WriteString("SELECT pg_catalog.set_config(name, " + literal(v) + ", false) FROM pg_catalog.pg_settings WHERE name = '" +
			name + "' AND source <> 'session';")
	}
	return sql.String()
}

// Tracked are the values of the tracked parameters.
type Tracked struct{ of unique.Handle[settings] }

// Tracked returns the values of the tracked parameters.
func (p *Params) Tracked() Tracked { return Tracked{p.settings()} }

// AppendChanges appends a ParameterStatus for each tracked parameter that has changed
// since before.
func (p *Params) AppendChanges(dst []byte, before Tracked) []byte {
	return appendChanges(dst, before.of.Value(), p.settings().Value())
}

// literal quotes a value in a way that standard_conforming_strings and the client
// encoding don't change: bytes that are not printable ASCII become question marks, as
// in PostgreSQL's own handling of application_name.
func literal(v string) string {
	var b strings.Builder
	b.WriteString("E'")
	for i := range len(v) {
		switch c := v[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte(c)
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// appendChanges appends a ParameterStatus for each tracked parameter that changes.
func appendChanges(dst []byte, from, to settings) []byte {
	for i, name := range tracked {
		if from.values[i] != to.values[i] {
			dst = pgwire.AppendParameterStatus(dst, name, to.values[i])
		}
	}
	return dst
}

// settings returns the values of the tracked parameters.
func (p *Params) settings() unique.Handle[settings] {
	if p.changed || p.tracked == (unique.Handle[settings]{}) {
		p.changed = false
		var v settings
		for i, name := range tracked {
			v.values[i], _ = p.Get(name)
		}
		p.tracked = unique.Make(v)
	}
	return p.tracked
}

// untracked returns the parameters that don't follow a client, in the form that
// appendUntracked needs: "\0name=value\0name=value\0".
func (p *Params) untracked() unique.Handle[string] {
	if p.othersChanged || p.others == (unique.Handle[string]{}) {
		p.othersChanged = false
		b := []byte{0}
		for i := range p.list {
			if !isTracked(p.list[i].Name) {
				b = append(append(append(append(b, p.list[i].Name...), '='), p.list[i].Value...), 0)
			}
		}
		p.others = unique.Make(string(b))
	}
	return p.others
}

// appendUntracked appends a ParameterStatus for each untracked parameter that differs
// from known, which are those of another backend.
func (p *Params) appendUntracked(dst []byte, known string) []byte {
	for i := range p.list {
		name, value := p.list[i].Name, p.list[i].Value
		if !isTracked(name) && !strings.Contains(known, "\x00"+name+"="+value+"\x00") {
			dst = pgwire.AppendParameterStatus(dst, name, value)
		}
	}
	return dst
}

// appendNews appends a ParameterStatus for each parameter that differs from known,
// which are those of another backend.
func (p *Params) appendNews(dst []byte, known *Params) []byte {
	for i := range p.list {
		if v, ok := known.Get(p.list[i].Name); !ok || v != p.list[i].Value {
			dst = pgwire.AppendParameterStatus(dst, p.list[i].Name, p.list[i].Value)
		}
	}
	return dst
}

// params returns the settings as parameters.
func (v settings) params() *Params {
	p := &Params{}
	for i, name := range tracked {
		p.Set(name, v.values[i])
	}
	return p
}

// All returns the parameters. The caller must not change the list.
func (p *Params) All() []pgwire.Param { return p.list }

// ParamsOf makes parameters of a list, and keeps the list.
func ParamsOf(list []pgwire.Param) Params {
	return Params{list: list, changed: true, othersChanged: true}
}
