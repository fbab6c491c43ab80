package relay

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"unique"
)

const (
	// MaxStatements is how many prepared statements of ours a backend holds.
	MaxStatements = 512
	// maxRetired is how many keys of outdated statements are kept.
	maxRetired = 1024
)

// settings are the values of the tracked parameters, in the order of tracked.
// PostgreSQL folds literals when it parses a statement, so those that count there
// are part of a statement's identity.
type settings struct {
	values [len(tracked)]string
}

// statementKey is a hash of what makes two prepared statements the same.
type statementKey [16]byte

// statement is a prepared statement as clients made it, under whatever names. It never
// changes, and all clients that prepared the same statement share it.
type statement struct {
	key statementKey
	// tail is the body of its Parse message behind the name: text, zero byte,
	// parameter types.
	tail   string
	with   unique.Handle[settings]
	traits traits
}

// statements are all statements of a worker for which some client has a name.
type statements struct {
	byKey map[statementKey]*shared
	// retired maps the key of a statement whose result type has changed to the key
	// that takes its place.
	retired map[statementKey]statementKey
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
	t := &statements{byKey: make(map[statementKey]*shared), retired: make(map[statementKey]statementKey)}
	_, _ = rand.Read(t.own[:]) // never fails
	return t
}

// keyOf returns the key of a text that is parsed with settings.
func (t *statements) keyOf(tail string, with unique.Handle[settings]) statementKey {
	b := make([]byte, 0, len(tail)+256)
	b = append(b, tail...)
	v := with.Value()
	for i, s := range v.values {
		if tracked[i] == "application_name" {
			continue // it doesn't change the meaning of a text
		}
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	key := hashed(b)
	for next, ok := t.retired[key]; ok; next, ok = t.retired[key] {
		key = next
	}
	return key
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

// hold returns the statement of a Parse message and counts one more holder. alone means
// that the settings at the time of the Parse are unknown, so the statement isn't
// shared.
func (t *statements) hold(tail []byte, with unique.Handle[settings], alone bool) *statement {
	text := string(tail)
	key := statementKey{}
	if alone {
		key = t.ownKey()
	} else {
		key = t.keyOf(text, with)
	}
	sh := t.byKey[key]
	if sh == nil {
		sh = &shared{stmt: &statement{key: key, tail: text, with: with, traits: traitsOf(queryText(tail))}}
		t.byKey[key] = sh
	}
	sh.refs++
	return sh.stmt
}

// drop counts one holder less.
func (t *statements) drop(s *statement) {
	sh := t.byKey[s.key]
	if sh == nil || sh.stmt != s {
		return
	}
	if sh.refs--; sh.refs == 0 {
		delete(t.byKey, s.key)
	}
}

// retire replaces a statement whose result type has changed: clients that prepare it
// from now on get a new one. Clients that have it already get the server's error each
// time they use it, as without a pool.
func (t *statements) retire(key statementKey) {
	if len(t.retired) >= maxRetired {
		clear(t.retired)
	}
	if _, ok := t.retired[key]; !ok {
		t.retired[key] = t.ownKey()
	}
}

// prepared are the statements on one backend, under names that the relay has given.
type prepared struct {
	byKey  map[statementKey]*list.Element // of *onBackend
	recent list.List                      // most recently used first
	serial uint64
	// lost are the names of statements that are forgotten here but still on the server,
	// because an error has skipped their Close.
	lost []string
}

// onBackend is a statement on a backend. there is set by the server's ParseComplete,
// because an error may skip the Parse.
type onBackend struct {
	key   statementKey
	name  string // on the server
	batch uint64 // of the exchange, when its Parse was sent
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

// remove forgets a statement. If the server still has it, that does no harm, because
// its name is never used again.
func (p *prepared) remove(on *onBackend) {
	if el := p.byKey[on.key]; el != nil && el.Value.(*onBackend) == on {
		p.recent.Remove(el)
		delete(p.byKey, on.key)
	}
}

// clear forgets all statements, as the server does at DISCARD ALL and DEALLOCATE ALL.
func (p *prepared) clear() {
	p.byKey, p.lost = nil, nil
	p.recent.Init()
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
