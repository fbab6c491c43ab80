package worker

import (
	"container/list"
	"crypto/sha256"
	"strconv"
	"unique"
)

// maxStatements is how many prepared statements of ours a backend holds.
const maxStatements = 512

// settings are the values of the tracked parameters, in the order of tracked.
// PostgreSQL folds literals when it parses a statement, so they are part of a
// statement's identity.
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
	tail string
	with unique.Handle[settings]
}

// statements are all statements of a worker that some client has a name for.
type statements struct {
	byKey map[statementKey]*shared
}

type shared struct {
	stmt *statement
	refs int
}

func newStatements() *statements { return &statements{byKey: make(map[statementKey]*shared)} }

// hold returns the statement of a Parse message and counts a holder.
func (t *statements) hold(tail []byte, with unique.Handle[settings]) *statement {
	h := sha256.New()
	h.Write(tail)
	v := with.Value()
	for _, s := range v.values {
		h.Write([]byte(strconv.Itoa(len(s)) + ":" + s))
	}
	var sum [sha256.Size]byte
	key := statementKey(h.Sum(sum[:0])[:16])
	sh := t.byKey[key]
	if sh == nil {
		sh = &shared{stmt: &statement{key: key, tail: string(tail), with: with}}
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

// prepared are the statements that one backend holds under names of ours.
type prepared struct {
	byKey  map[statementKey]*list.Element // of *onBackend
	recent list.List                      // most recently used first
	serial uint64
	coming int // added, not there yet
}

// onBackend is a statement on a backend. It is known to be there once the server
// has said so; a Parse that an error skipped never was.
type onBackend struct {
	stmt   *statement
	serial uint64
	there  bool
}

// name is the statement's name on the server.
func (o *onBackend) name() string { return "pgagroal_" + strconv.FormatUint(o.serial, 36) }

// get returns a statement that is there, or on its way there in this exchange.
func (p *prepared) get(s *statement) *onBackend {
	el := p.byKey[s.key]
	if el == nil {
		return nil
	}
	p.recent.MoveToFront(el)
	return el.Value.(*onBackend)
}

// add notes a statement whose Parse is being sent, and returns the one that it
// pushes out, nil for none.
func (p *prepared) add(s *statement) (added, evicted *onBackend) {
	if p.byKey == nil {
		p.byKey = make(map[statementKey]*list.Element)
	}
	p.serial++
	p.coming++
	added = &onBackend{stmt: s, serial: p.serial}
	p.byKey[s.key] = p.recent.PushFront(added)
	if p.recent.Len() > maxStatements {
		evicted = p.recent.Back().Value.(*onBackend)
		p.remove(evicted.stmt)
	}
	return added, evicted
}

// confirm says that the server has the statement.
func (p *prepared) confirm(s *statement) {
	if el := p.byKey[s.key]; el != nil && !el.Value.(*onBackend).there {
		el.Value.(*onBackend).there = true
		p.coming--
	}
}

// remove forgets a statement. Its serial number is never used again, so it does
// no harm when the server still has it.
func (p *prepared) remove(s *statement) {
	if el := p.byKey[s.key]; el != nil {
		if !el.Value.(*onBackend).there {
			p.coming--
		}
		p.recent.Remove(el)
		delete(p.byKey, s.key)
	}
}

// forgetUnconfirmed drops those whose Parse was skipped: nothing is owed any
// more, so what isn't there won't come.
func (p *prepared) forgetUnconfirmed() {
	for el := p.recent.Front(); el != nil && p.coming > 0; {
		next := el.Next()
		if o := el.Value.(*onBackend); !o.there {
			p.remove(o.stmt)
		}
		el = next
	}
}

// clear forgets all: DISCARD ALL and DEALLOCATE ALL do the same on the server.
func (p *prepared) clear() {
	p.byKey, p.coming = nil, 0
	p.recent.Init()
}
