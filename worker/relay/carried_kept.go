package relay

import (
	"errors"
	"slices"
	"strings"
)

// Keep is what Carried has of a kept session.
type Keep struct {
	On bool
	// Trusts: its Reader is Trusting.
	Trusts          bool
	Sets, Pending   []Assignment
	Mark, Blind     string
	Touched, Unseen bool
	// Portal, Portals and Unnamed are effects, of which there may be none.
	Portal, Portals, Unnamed KeptEffect
}

// KeptEffect is an Effect, or none.
type KeptEffect struct {
	There bool
	Sets  []Assignment
	Mark  string
	Lasts bool
}

var errKept = errors.New("a kept session that can't be")

// Movable implements Conversation.
func (k *Kept) Movable() bool { return k.Pooled.Movable() }

// Carry implements Conversation.
func (k *Kept) Carry() Carried {
	c, x := k.Pooled.Carry(), &k.keep
	c.Keep = Keep{
		On: true, Trusts: !x.reader.Doubts(), Sets: slices.Clone(x.sets), Pending: slices.Clone(x.pending), Mark: x.mark, Blind: x.blind,
		Touched: x.touched, Unseen: x.unseen, Portal: x.portal.carry(), Portals: x.portals.carry(), Unnamed: x.unnamed.carry(),
	}
	return c
}

func (e *Effect) carry() KeptEffect {
	if e == nil {
		return KeptEffect{}
	}
	return KeptEffect{There: true, Sets: e.Sets, Mark: e.Mark, Lasts: e.Lasts}
}

func (e *KeptEffect) effect() *Effect {
	if !e.There {
		return nil
	}
	return &Effect{Sets: e.Sets, Mark: e.Mark, Lasts: e.Lasts}
}

func (s *Shared) continueKept(id uint64, c *Carried, b *Backend, h Hold, reader Reader) (Conversation, error) {
	x := &c.Keep
	all := slices.Concat(x.Sets, x.Pending, x.Portal.Sets, x.Portals.Sets, x.Unnamed.Sets)
	if slices.ContainsFunc(all, func(a Assignment) bool { return strings.Contains(a.SQL, "\x00") }) ||
		len(x.Sets)+len(x.Pending) > maxSets || lengthOf(x.Sets, x.Pending) > maxSetsText {
		return nil, errKept
	}
	k := s.Kept(id, reader)
	if err := k.carried(c); err != nil {
		k.End()
		return nil, err
	}
	k.keep = keeping{
		reader: reader, sets: slices.Clone(x.Sets), pending: slices.Clone(x.Pending), mark: x.Mark, blind: x.Blind, touched: x.Touched, unseen: x.Unseen,
		portal: x.Portal.effect(), portals: x.Portals.effect(), unnamed: x.Unnamed.effect(),
	}
	if b != nil {
		reader.Blind(&b.Params) // it learns the server's version
		k.continues(b, h)
		k.line.keep = &k.keep
	}
	for _, st := range k.names {
		if st.reader == nil { // otherwise another client has brought it here
			st.effect, st.reader = reader.Read(queryText([]byte(st.tail))), reader
		}
	}
	return k, nil
}
