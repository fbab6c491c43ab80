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
	// maxRetired is how many keys of outdated statements are remembered.
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

// statement is a prepared statement as a client made it, whatever name it has
// there. It never changes and is shared by all who prepared the same.
type statement struct {
	key statementKey
	// tail is the body of its Parse message behind the name: text, zero byte,
	// parameter types.
	tail   string
	with   unique.Handle[settings]
	traits traits
}

// statements are all statements of a worker that some client has a name for.
type statements struct {
	byKey map[statementKey]*shared
	// retired leads from the key of a statement whose result type has changed to
	// the one that takes its place.
	retired map[statementKey]statementKey
	// own makes the keys of statements that nobody shares differ from those of
	// other workers, earlier ones included: a backend may come from there.
	own    [16]byte
	serial uint64 // of statements that nobody shares
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
			continue // it changes nothing in what a text means
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

// ownKey returns a key that nothing else has.
func (t *statements) ownKey() statementKey {
	t.serial++
	return hashed(binary.BigEndian.AppendUint64(t.own[:], t.serial))
}

// hold returns the statement of a Parse message and counts a holder. A statement
// of which nobody knows the settings that it is parsed with isn't shared.
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

// drop ends a holding.
func (t *statements) drop(s *statement) {
	sh := t.byKey[s.key]
	if sh == nil || sh.stmt != s {
		return
	}
	if sh.refs--; sh.refs == 0 {
		delete(t.byKey, s.key)
	}
}

// retire makes those who prepare a statement from now on get another one: its
// result type has changed. Those who have it still get the server's error, once
// for each time that they use it, as without us.
func (t *statements) retire(key statementKey) {
	if len(t.retired) >= maxRetired {
		clear(t.retired)
	}
	if _, ok := t.retired[key]; !ok {
		t.retired[key] = t.ownKey()
	}
}

// prepared are the statements that one backend holds under names of ours.
type prepared struct {
	byKey  map[statementKey]*list.Element // of *onBackend
	recent list.List                      // most recently used first
	serial uint64
	// lost are names on the server that nobody knows any more: the Close was
	// skipped by an error.
	lost []string
}

// onBackend is a statement on a backend. It is known to be there once the server
// has said so; a Parse that an error skipped never was.
type onBackend struct {
	key   statementKey
	name  string // on the server
	batch uint64 // of the exchange, in which its Parse was sent
	there bool
}

// get returns a statement that is there, or that a Parse in the same batch
// makes: one in an earlier batch may turn out to be skipped by an error.
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

// add notes a statement whose Parse is being sent, and returns the one that has
// to go for it, nil for none.
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

// remove forgets a statement. Its name is never used again, so it does no harm
// when the server still has it.
func (p *prepared) remove(on *onBackend) {
	if el := p.byKey[on.key]; el != nil && el.Value.(*onBackend) == on {
		p.recent.Remove(el)
		delete(p.byKey, on.key)
	}
}

// clear forgets all: DISCARD ALL and DEALLOCATE ALL do the same on the server.
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
