package relay

import (
	"bytes"
	"errors"
	"strings"
	"unique"
)

// Carried is a conversation between two messages, when nothing is under way, in a form that
// another worker can continue (Carry, Continue). What becomes of each field:
//
//	Direct     touched, moves               carried
//	           id                           the client's id, which stays
//	           line                         made anew: it is at rest, so nothing is owed
//	Pooled     names, unnamed, text         carried; text is counted again
//	           tracked, initial, untracked  carried
//	           portal, portals              carried: a block may go on using its portals
//	           block, discarding, fail      carried
//	           id                           the client's id, which stays
//	           line                         made anew: it is at rest. A client that is inside a
//	                                        message can't be carried.
//	           x                            of the backend, see below
//	exchange   dirty, sequences, sets       carried in Hold
//	           batch                        begins anew: no statement of an earlier batch is under way
//	           all others                   empty at rest, or see settled
//	Kept       Pooled                       carried like any other
//	           keep                         carried in Keep; pending, too: a block may go on
//	keeping    reader                       the other worker's, of the same kind
//	           chained                      false at rest
//	           all others                   carried
//	Backend    Base, Params, prepared       carried as those of any backend that goes to another worker
//	           Status, resets, Indelible    carried in Hold
//	           Dirty, Sequences, DirtyBy    carried as those of any backend
//	           Steps                        begins anew: it only counts
//	           Code, Died                   empty: the worker has read them
//	statement  key, tail, with, traits,     carried; a statement that others may have, too, is shared again,
//	           naming, described, same      under its key
//	           effect, reader               read again by the other worker's reader
//
// The bits of traits and the numbers of block are part of what is carried, so they never change.
type Carried struct {
	Keeps          bool // a Direct conversation, which has only Moves and Touched
	Moves, Touched bool

	Tracked, Initial  []string // one value for each tracked parameter
	Untracked         string
	Named             []Named
	Unnamed           Unnamed
	Portal, Portals   uint32
	Block             uint8
	Discarding, Fails bool
	Failure           []byte

	Keep Keep
}

// Named is a prepared statement under a client's name.
type Named struct {
	Name, Key, Text string
	Settings        []string
	Traits          uint32
	Naming          bool
	Params, Hash    string
}

// Unnamed is a client's unnamed statement.
type Unnamed struct {
	Exists, Here, Kept, Used bool
	Traits                   uint32
	Number                   uint64
	Text                     string
}

// Hold is what is known of a backend only while a client has it.
type Hold struct {
	Status                          byte
	Resets, Indelible               bool
	Dirty, Sequences, MaySetFurther bool
}

// Hold returns what another worker must know of a backend whose client goes there with it.
func (b *Backend) Hold() Hold {
	x := &b.exchange
	return Hold{Status: b.Status, Resets: b.resets, Indelible: b.Indelible, Dirty: x.dirty, Sequences: x.sequences, MaySetFurther: x.sets}
}

var (
	errSettings  = errors.New("a wrong number of tracked parameters")
	errStatement = errors.New("a prepared statement that can't be")
	errBlock     = errors.New("an unknown transaction block")
	errStatus    = errors.New("an unknown transaction status")
)

// Movable implements Conversation.
func (d *Direct) Movable() bool { return d.line != nil && d.Stand() != Busy }

// Movable implements Conversation.
func (p *Pooled) Movable() bool {
	switch {
	case !p.ready() || !isSet(p.tracked):
		return false
	case p.x == nil:
		return p.line == nil // inside a message, a client without a backend has a line
	}
	return p.Stand() != Busy && p.x.settled()
}

// settled reports whether nothing of an exchange at rest would be lost with it.
func (x *exchange) settled() bool {
	return !x.skipping && !x.errored && !x.copying && x.held == nil && !x.waits && x.skip == 0 && x.need == 0 &&
		len(x.heldError) == 0 && !x.errorPassing && x.farewell == "" && !x.sinks
}

// Carry implements Conversation.
func (d *Direct) Carry() Carried { return Carried{Keeps: true, Moves: d.moves, Touched: d.touched} }

// Carry implements Conversation.
func (p *Pooled) Carry() Carried {
	u := &p.unnamed
	c := Carried{
		Tracked: p.tracked.Value().list(), Initial: p.initial.Value().list(),
		Unnamed: Unnamed{u.exists, u.here, u.kept, u.used, uint32(u.traits), u.number, string(u.tail)},
		Portal:  uint32(p.portal), Portals: uint32(p.portals),
		Block: uint8(p.block), Discarding: p.discarding,
	}
	if p.untracked != (unique.Handle[string]{}) {
		c.Untracked = p.untracked.Value()
	}
	if p.fail != nil {
		c.Fails, c.Failure = true, bytes.Clone(p.fail.answer)
	}
	for name, st := range p.names {
		c.Named = append(c.Named, st.current().named(name))
	}
	return c
}

func (s *statement) named(name string) Named {
	n := Named{
		Name: name, Key: string(s.key[:]), Text: s.tail, Settings: s.with.Value().list(), Traits: uint32(s.traits), Naming: s.naming,
	}
	if s.described.known() {
		n.Params, n.Hash = s.described.params, string(s.described.hash[:])
	}
	return n
}

func (v settings) list() []string { return append([]string(nil), v.values[:]...) }

func settingsFrom(list []string) (unique.Handle[settings], error) {
	var v settings
	if len(list) != len(v.values) {
		return unique.Handle[settings]{}, errSettings
	}
	copy(v.values[:], list)
	return unique.Make(v), nil
}

// Continue returns the conversation of the client id that another worker has carried here. b is the
// client's backend, nil if it has none, and h what was known of that.
// reader is that of a kept session.
func (s *Shared) Continue(id uint64, c *Carried, b *Backend, h Hold, reader Reader) (Conversation, error) {
	if b != nil {
		switch h.Status {
		case 'I', 'T', 'E':
		default:
			return nil, errStatus
		}
	}
	if c.Keeps {
		return s.continueDirect(id, c, b, h)
	}
	if c.Keep.On {
		return s.continueKept(id, c, b, h, reader)
	}
	p := s.Pooled(id)
	if err := p.carried(c); err != nil {
		p.End()
		return nil, err
	}
	if b != nil {
		p.continues(b, h)
	}
	return p, nil
}

// continues has a client go on with its backend.
func (p *Pooled) continues(b *Backend, h Hold) {
	p.wake()
	p.line.start(&p.shared.Totals, b, pooledClient, pooledServer)
	p.x = &b.exchange
	p.x.dirty, p.x.sequences, p.x.sets = h.Dirty, h.Sequences, h.MaySetFurther
	b.continues(h)
}

func (s *Shared) continueDirect(id uint64, c *Carried, b *Backend, h Hold) (Conversation, error) {
	if b == nil {
		return nil, errors.New("a client that keeps its backend has none")
	}
	d := s.Direct(id, c.Moves)
	d.touched = c.Touched
	d.line = s.take()
	d.line.start(&s.Totals, b, clientInterests, serverInterests)
	b.continues(h)
	return d, nil
}

func (b *Backend) continues(h Hold) {
	b.Status, b.resets, b.Indelible = h.Status, h.Resets, h.Indelible
}

// carried fills a new conversation. After an error, it must be ended: the statements that it shares already
// are given back.
func (p *Pooled) carried(c *Carried) (err error) {
	if p.tracked, err = settingsFrom(c.Tracked); err != nil {
		return err
	}
	if p.initial, err = settingsFrom(c.Initial); err != nil {
		return err
	}
	if c.Block > uint8(failedBlock) {
		return errBlock
	}
	p.untracked = unique.Make(c.Untracked)
	p.portal, p.portals = traits(c.Portal), traits(c.Portals)
	p.block, p.discarding = block(c.Block), c.Discarding
	if c.Fails {
		p.fail = &failure{bytes.Clone(c.Failure)}
	}
	u := &c.Unnamed
	p.unnamed = unnamed{u.Exists, u.Here, u.Kept, u.Used, traits(u.Traits), u.Number, []byte(u.Text)}
	if u.Kept && !strings.Contains(u.Text, "\x00") {
		return errStatement
	}
	for i := range c.Named {
		if err := p.carriedName(&c.Named[i]); err != nil {
			return err
		}
	}
	return nil
}

// carriedName adds a statement. It is shared only under the key that its text gives it.
func (p *Pooled) carriedName(n *Named) error {
	with, err := settingsFrom(n.Settings)
	if err != nil {
		return err
	}
	if len(n.Key) != len(statementKey{}) || len(n.Hash) != 0 && len(n.Hash) != len(statementKey{}) ||
		!strings.Contains(n.Text, "\x00") || p.names[n.Name] != nil || len(p.names) >= maxNamed {
		return errStatement
	}
	st := &statement{key: statementKey([]byte(n.Key)), tail: n.Text, with: with, traits: traits(n.Traits), naming: n.Naming}
	if n.Hash != "" {
		st.described = description{n.Params, statementKey([]byte(n.Hash))}
		if st.key == keyWith(baseOf(st.tail, with), st.described) {
			st = p.shared.statements.share(st, st.described, st.key)
		}
	}
	p.name(n.Name, st)
	return nil
}
