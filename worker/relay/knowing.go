package relay

import (
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/leftovers"
)

// Knowing is the Reader that marks a session with whatever it doesn't understand (package
// leftovers). It belongs to the event loop, like the sessions that share it.
type Knowing struct {
	functions []string
	major     int // the oldest version of the servers, 0 before the first is known
	reader    *leftovers.Reader
	seen      map[string]*Effect
}

const (
	// maxSeen bounds the texts whose effects a Knowing remembers, longestSeen their length.
	maxSeen     = 1024
	longestSeen = 1024
)

// NewKnowing returns a Knowing to which the operator has named further functions, as
// leftovers.ParseFunctions returns them.
func NewKnowing(functions []string) *Knowing {
	k := &Knowing{functions: functions}
	k.serves(oldestMajor)
	return k
}

// oldestMajor is the oldest version of PostgreSQL whose functions are known.
const oldestMajor = 13

// serves prepares for servers of a version.
func (k *Knowing) serves(major int) {
	k.reader = leftovers.NewReader(major, k.functions)
	k.seen = make(map[string]*Effect)
}

// Blind implements Reader.
func (k *Knowing) Blind(p *Params) string {
	v, _ := p.Get("server_version")
	digits := len(v) - len(strings.TrimLeft(v, "0123456789"))
	if major, _ := strconv.Atoi(v[:digits]); major > 0 && (k.major == 0 || major < k.major) {
		k.major = major
		k.serves(major)
	}
	for _, r := range p.All() {
		if why := leftovers.Unreadable(r.Name, r.Value); why != "" {
			return why
		}
	}
	return ""
}

// Unread implements Reader.
func (*Knowing) Unread(what string) *Effect { return &Effect{Mark: what} }

// Doubts implements Reader.
func (*Knowing) Doubts() bool { return true }

// Read implements Reader.
func (k *Knowing) Read(text []byte) *Effect {
	e, ok := k.seen[string(text)]
	if ok {
		return e
	}
	e = effectOfLeft(k.reader.Read(text))
	if len(text) <= longestSeen {
		if len(k.seen) >= maxSeen {
			clear(k.seen)
		}
		k.seen[string(text)] = e
	}
	return e
}

// effectOfLeft puts what was read into the words of this package.
func effectOfLeft(left leftovers.Left) *Effect {
	if len(left.Changes) == 0 && left.Mark.Why == "" {
		return nil
	}
	e := &Effect{Mark: left.Mark.Why, Lasts: left.Mark.Lasts}
	for _, c := range left.Changes {
		switch {
		case c.Kind != leftovers.SetLocal:
			e.Sets = append(e.Sets, Assignment{Name: c.Name, SQL: c.SQL, Reset: c.Kind != leftovers.Set})
		case strings.Contains(c.Name, "."):
			e.Sets = append(e.Sets, Assignment{Name: c.Name})
		}
	}
	return e
}
