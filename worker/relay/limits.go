package relay

import (
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

const (
	// maxNamed is how many named prepared statements a client may have, and
	// maxNamedText the size of all their names and texts together, in bytes. They are
	// kept in the worker's memory, so the server's memory can't be the limit.
	maxNamed     = 8192
	maxNamedText = 64 << 20
)

// name records the client's name of a statement.
func (p *Pooled) name(name string, st *statement) {
	if p.names == nil {
		p.names = make(map[string]*statement)
	}
	p.names[name] = st
	p.text += len(name) + len(st.tail)
}

// unname forgets the client's name of a statement, which is still held.
func (p *Pooled) unname(name string, st *statement) {
	delete(p.names, name)
	p.text -= len(name) + len(st.tail)
}

// overLimit sends, in place of a Parse that exceeds a limit, a text that the server
// refuses. The server then skips to the Sync and fails the transaction, as after any
// other error. The client gets our error instead of the server's.
func (p *Pooled) overLimit(out []byte) []byte {
	p.x.push(owed{kind: 'P', fate: tooMany})
	return appendParse(out, noStatement, []byte("pgagroal: a client's prepared statements are too many or too long\x00\x00\x00"))
}

func appendOverLimit(out []byte) []byte {
	return pgwire.RefusalManyStatements.With(maxNamed, maxParse>>20, maxNamedText>>20).Append(out)
}

// MaxOwed is how many answers a server may owe a client of the transaction pipeline
// before the worker stops reading from the client. The worker keeps an entry for
// each, and a message that is answered may be only five bytes long, so the kernel's
// buffers hold millions of them. The limit can't block a client for ever: a server
// sends its answers at a Sync, or as soon as it has 8 kB of them, which is 1600 of
// the shortest.
const MaxOwed = 8192

// flooded reports whether the client must not be read: it is owed more than MaxOwed
// answers, or what it has said is held.
func (p *Pooled) flooded() bool { return p.x != nil && (p.x.len() > MaxOwed || p.x.held != nil) }
