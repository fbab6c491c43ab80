package relay

import (
	"fmt"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

const (
	// maxNamed is how many prepared statements a client may have a name for, and
	// maxNamedText how long their names and texts may be together, in bytes. They
	// are kept here, so PostgreSQL's own limit, its memory, can't be theirs.
	maxNamed     = 8192
	maxNamedText = 64 << 20
)

// name gives a statement a name of the client's.
func (p *Pooled) name(name string, st *statement) {
	if p.names == nil {
		p.names = make(map[string]*statement)
	}
	p.names[name] = st
	p.text += len(name) + len(st.tail)
}

// unname takes a name of the client's away; the statement is still held.
func (p *Pooled) unname(name string, st *statement) {
	delete(p.names, name)
	p.text -= len(name) + len(st.tail)
}

// overLimit has the server refuse a Parse for which there is no room here: it is
// the server that skips to the Sync and fails the transaction. Instead of its
// error the client gets ours.
func (p *Pooled) overLimit(out []byte) []byte {
	p.x.push(owed{kind: 'P', fate: replace})
	return appendParse(out, noStatement, []byte("pgagroal: a client's prepared statements are too many or too long\x00\x00\x00"))
}

// isOverLimit reports whether an error that came just now is the answer to that.
func (p *Pooled) isOverLimit() bool {
	e := p.x.first()
	return e != nil && e.fate == replace
}

func appendOverLimit(out []byte) []byte {
	msg := fmt.Sprintf("prepared statements of a client are limited to %d, to %d MiB each and %d MiB together",
		maxNamed, maxParse>>20, maxNamedText>>20)
	return pgwire.AppendError(out, pgwire.SeverityError, pgwire.CodeProgramLimitExceeded, msg,
		pgwire.Hint("Close or deallocate statements that are not used any more."))
}

// MaxOwed is how many answers a server may owe a client of the transaction
// pipeline before the client isn't listened to any more: each is noted here, and a
// message that is answered may have five bytes, of which the kernel holds millions.
// A server keeps answers back until a Sync or until it has 8 kB of them, which are
// 1600 of the shortest; so it has always sent some before there are that many, and
// the client is listened to again.
const MaxOwed = 8192

// flooded reports whether the client is owed as much as it may be.
func (p *Pooled) flooded() bool { return p.x != nil && p.x.len() > MaxOwed }
