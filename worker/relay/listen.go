package relay

import (
	"bytes"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// A LISTEN belongs to a connection, and a client has one for a transaction only. So it is
// refused, rather than accepted for notifications that never come.

// listens reports whether one of the statements of a text with these traits is a LISTEN.
// A text that isn't understood is none.
func (t traits) listens(text []byte) bool {
	if t&traitListen == 0 {
		return false // the usual case, without a look at quotes
	}
	for len(text) > 0 {
		end, ok := statementEnd(text)
		if !ok {
			return false
		}
		if word, _ := nextWord(text[:end]); bytes.EqualFold(word, []byte("listen")) {
			return true
		}
		text = text[min(end+1, len(text)):]
	}
	return false
}

// refuseListen sends, in place of a Query or Parse, a text that the server refuses. The
// transaction then fails as after any other error.
func (p *Pooled) refuseListen(out []byte, kind byte) []byte {
	const text = "pgagroal: LISTEN is refused\x00"
	if kind == 'Q' {
		p.note('Q', 0)
		p.x.last().fate = unheard
		return pgwire.AppendMessage(out, 'Q', []byte(text))
	}
	p.x.push(owed{kind: 'P', fate: unheard})
	return appendParse(out, noStatement, []byte(text+"\x00\x00"))
}

func appendUnheard(out []byte) []byte {
	return pgwire.RefusalListen.With().Append(out)
}
