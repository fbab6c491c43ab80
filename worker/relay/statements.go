package relay

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"unique"
)

const (
	// MaxStatements is how many prepared statements the relay keeps on a backend.
	MaxStatements = 512
)

// settings are the values of the tracked parameters, in the order of tracked.
// PostgreSQL folds literals when it parses a statement, so those that count there
// are part of a statement's identity.
type settings struct {
	values [len(tracked)]string
}

// statementKey is a hash of what makes two prepared statements the same.
type statementKey [16]byte

// statement is a prepared statement as clients made it, under whatever names. Until the
// server has described it, it belongs to one client. From then on it never changes, and
// all clients that prepared the same statement share it.
type statement struct {
	key statementKey
	// tail is the body of its Parse message behind the name: text, zero byte,
	// parameter types.
	tail   string
	with   unique.Handle[settings]
	traits traits
	naming bool // the text names other statements
	// described is what the server has said about it.
	described description
	// effect is what it leaves in a kept session, as reader has read it.
	effect *Effect
	reader Reader
	// same is the statement that takes its place, nil for none: others had the same
	// already when the server described it.
	same *statement
}

// current returns the statement, or the one that takes its place.
func (s *statement) current() *statement {
	if s.same != nil {
		return s.same
	}
	return s
}

// query is the text with its zero byte.
func (s *statement) query() string { return s.tail[:strings.IndexByte(s.tail, 0)+1] }

// statements are all described statements of a worker for which some client has a name.
type statements struct {
	byKey map[statementKey]*shared
	// own is random. It makes the keys of unshared statements differ from those of all
	// other workers, earlier ones included, since their backends may come here.
	own    [16]byte
	serial uint64 // of unshared statements
}

type shared struct {
	stmt *statement
	refs int
}

func newStatements() *statements {
	t := &statements{byKey: make(map[statementKey]*shared)}
	_, _ = rand.Read(t.own[:]) // never fails
	return t
}

// baseOf returns the part of a key that is known before the server has described the
// statement: a hash of the text, its parameter types and the settings it is parsed with.
func baseOf(tail string, with unique.Handle[settings]) statementKey {
	b := make([]byte, 0, len(tail)+256)
	b = append(b, tail...)
	v := with.Value()
	for i, s := range v.values {
		if tracked[i] == "application_name" {
			continue // it doesn't change the meaning of a text
		}
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return hashed(b)
}

// keyWith returns the key of a statement that the server has described.
func keyWith(base statementKey, d description) statementKey {
	return hashed(append(base[:len(base):len(base)], d.hash[:]...))
}

func hashed(b []byte) statementKey {
	sum := sha256.Sum256(b)
	return statementKey(sum[:16])
}

// ownKey returns a key that no other statement has.
func (t *statements) ownKey() statementKey {
	t.serial++
	return hashed(binary.BigEndian.AppendUint64(t.own[:], t.serial))
}

// prepare returns the statement of a Parse message, and the base of its key. effects are
// the traits of its text. alone means that the settings at the time of the Parse are
// unknown, so the statement is never shared.
func (t *statements) prepare(tail []byte, effects traits, with unique.Handle[settings], alone bool) (st *statement, base statementKey) {
	st = &statement{key: t.ownKey(), tail: string(tail), with: with, traits: effects}
	if alone {
		return st, t.ownKey()
	}
	return st, baseOf(st.tail, with)
}

// share returns the statement that all clients share under this key, and counts one more
// holder of it: st itself, if st is the first with the key.
func (t *statements) share(st *statement, d description, key statementKey) *statement {
	sh := t.byKey[key]
	if sh == nil {
		st.key, st.described = key, d
		sh = &shared{stmt: st}
		t.byKey[key] = sh
	} else {
		st.same = sh.stmt
	}
	sh.refs++
	return sh.stmt
}

// drop counts one holder less.
func (t *statements) drop(s *statement) {
	s = s.current()
	sh := t.byKey[s.key]
	if sh == nil || sh.stmt != s {
		return
	}
	if sh.refs--; sh.refs == 0 {
		delete(t.byKey, s.key)
	}
}

// prepared are the statements on one backend, under names that the relay has given.
type prepared struct {
	byKey  map[statementKey]*list.Element // of *onBackend
	recent list.List                      // most recently used first
	serial uint64
	// lost are the names of statements that are forgotten here but still on the server.
	lost []string
}

// onBackend is a statement on a backend. there is set by the server's ParseComplete,
// because an error may skip the Parse. Until the server has described the statement, its
// key is one that no other has.
type onBackend struct {
	key   statementKey
	base  statementKey // what keyWith makes its key of
	name  string       // on the server
	batch uint64       // of the exchange, when its Parse was sent
	there bool
}

// get returns a statement that is on the backend or that a Parse of the same batch
// makes. A Parse of an earlier batch doesn't count: an error may skip it.
func (p *prepared) get(key statementKey, batch uint64) *onBackend {
	el := p.byKey[key]
	if el == nil {
		return nil
	}
	on := el.Value.(*onBackend)
	if !on.there && on.batch != batch {
		return nil
	}
	p.recent.MoveToFront(el)
	return on
}

// add records a statement whose Parse is about to be sent. It returns the statement
// that must be closed for it, nil for none.
func (p *prepared) add(key statementKey, batch uint64) (added, gone *onBackend) {
	if p.byKey == nil {
		p.byKey = make(map[statementKey]*list.Element)
	}
	if el := p.byKey[key]; el != nil {
		gone = el.Value.(*onBackend)
		p.remove(gone)
	}
	p.serial++
	added = &onBackend{key: key, name: "pgagroal_" + strconv.FormatUint(p.serial, 36), batch: batch}
	p.byKey[key] = p.recent.PushFront(added)
	if p.recent.Len() > MaxStatements {
		gone = p.recent.Back().Value.(*onBackend)
		p.remove(gone)
	}
	return added, gone
}

// refile puts a statement under the key that it has since the server has described it.
// If the backend has the same already, refile returns that one, and the new one goes.
func (p *prepared) refile(on *onBackend, key statementKey) *onBackend {
	el := p.byKey[on.key]
	if el == nil || el.Value.(*onBackend) != on {
		return on // it was closed meanwhile
	}
	if same := p.byKey[key]; same != nil {
		p.forsake(on)
		p.recent.MoveToFront(same)
		return same.Value.(*onBackend)
	}
	delete(p.byKey, on.key)
	on.key = key
	p.byKey[key] = el
	return on
}

// forsake forgets a statement that the server has, and has it closed before the next
// Parse.
func (p *prepared) forsake(on *onBackend) {
	if el := p.byKey[on.key]; el != nil && el.Value.(*onBackend) == on {
		p.remove(on)
		p.lost = append(p.lost, on.name)
	}
}

// forsakeAll is forsake for all statements that the server should have.
func (p *prepared) forsakeAll() {
	for el := p.recent.Front(); el != nil; {
		on := el.Value.(*onBackend)
		if el = el.Next(); on.there {
			p.forsake(on)
		}
	}
}

// remove forgets a statement. If the server still has it, that does no harm, because
// its name is never used again.
func (p *prepared) remove(on *onBackend) {
	if el := p.byKey[on.key]; el != nil && el.Value.(*onBackend) == on {
		p.recent.Remove(el)
		delete(p.byKey, on.key)
	}
}

// clear forgets all statements, as the server does at DISCARD ALL and DEALLOCATE ALL. A
// statement whose Parse is unanswered is made after that.
func (p *prepared) clear() {
	p.lost = nil
	for el := p.recent.Front(); el != nil; {
		on := el.Value.(*onBackend)
		if el = el.Next(); on.there {
			p.remove(on)
		}
	}
}

// Held is a statement on a backend, as another worker is told of it.
type Held struct {
	Key  string
	Name string // on the server
}

// Holding is all that another worker has to know of a backend's statements.
type Holding struct {
	Statements []Held // most recently used first
	Serial     uint64
	Lost       []string
}

// holding returns what is there. No Parse is under way.
func (p *prepared) holding() Holding {
	h := Holding{Serial: p.serial, Lost: p.lost}
	for el := p.recent.Front(); el != nil; el = el.Next() {
		if on := el.Value.(*onBackend); on.there {
			h.Statements = append(h.Statements, Held{string(on.key[:]), on.name})
		}
	}
	return h
}

// restore is the reverse of holding.
func (p *prepared) restore(h Holding) {
	p.serial, p.lost = h.Serial, h.Lost
	p.recent.Init()
	for _, st := range h.Statements {
		if len(st.Key) != len(statementKey{}) {
			continue
		}
		if p.byKey == nil {
			p.byKey = make(map[statementKey]*list.Element, len(h.Statements))
		}
		on := &onBackend{key: statementKey([]byte(st.Key)), name: st.Name, there: true}
		p.byKey[on.key] = p.recent.PushBack(on)
	}
}
