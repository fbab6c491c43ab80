package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// unlucky is a client of the transaction pipeline, or a kept session, that loses its backends at
// any moment and sometimes gets no other one, with what a session does for it.
type unlucky struct {
	t       *testing.T
	r       *rand.Rand
	talk    Conversation
	server  *modelServer // of its backend, nil without
	heard   int          // bytes of the server's answers that were taken
	servers []*modelServer
	pieces  int
	got     []byte // what it was told
	ended   bool
}

// say gives what the client says to its backend, or gets it one, or loses it.
func (u *unlucky) say(data []byte) {
	for len(data) > 0 && !u.ended {
		n := min(len(data), 1+u.r.IntN(u.pieces))
		u.pass(data[:n])
		data = data[n:]
		u.hear(u.r.IntN(u.pieces))
		if u.r.IntN(60) == 0 {
			u.lose()
		}
	}
}

func (u *unlucky) pass(data []byte) {
	p, err := u.talk.FromClient(data)
	if err != nil {
		u.t.Fatal(err)
	}
	u.got = append(u.got, p.ToClient...)
	switch {
	case u.server != nil:
		u.server.write(p.ToServer)
		u.boundary(p.Stand)
	case len(p.ToServer) > 0:
		u.attach(bytes.Clone(p.ToServer))
	}
}

// attach gets the client a new backend for what it has said, or none.
func (u *unlucky) attach(said []byte) {
	if said != nil && u.r.IntN(10) == 0 {
		p, stays, err := u.talk.Refuse(said, pgwire.RefusalPoolFull.With().AppendError(nil))
		if err != nil || !stays || p.ToServer != nil || p.Leaving {
			u.t.Fatalf("%+v, stays %v, %v", p, stays, err)
		}
		u.got = append(u.got, p.ToClient...)
		return
	}
	u.server, u.heard = newModelServer(), 0
	u.servers = append(u.servers, u.server)
	if u.talk.InFailedBlock() {
		u.server.status = pgwire.TxFailed
	}
	u.talk.Start(&Backend{}, u.server.status)
	if said != nil {
		u.pass(said)
	}
}

// hear takes at most n bytes of what the server has said.
func (u *unlucky) hear(n int) {
	if u.server == nil || u.ended {
		return
	}
	data := u.server.out[u.heard:min(len(u.server.out), u.heard+n)]
	u.heard += len(data)
	p, err := u.talk.FromServer(bytes.Clone(data))
	if err != nil {
		u.t.Fatal(err)
	}
	u.got = append(u.got, p.ToClient...)
	u.server.write(p.ToServer)
	u.boundary(p.Stand)
}

func (u *unlucky) boundary(at Stand) {
	if at == Parting {
		u.got = append(u.got, u.talk.Part()...)
		u.server = nil
	}
}

// lose loses the backend, with all that it has still to say.
func (u *unlucky) lose() {
	if u.server == nil || u.ended {
		return
	}
	mid := u.talk.MidMessage()
	loss := u.talk.Lose()
	u.server = nil
	u.got = append(u.got, loss.ToClient...)
	switch loss.Fate {
	case Waits:
		u.attach(bytes.Clone(loss.Rest))
	case Ends:
		if u.ended = true; !mid {
			u.t.Error("a client ends that could be told what it has lost")
		}
	}
}

// drain takes all that the server says.
func (u *unlucky) drain() {
	for u.server != nil && !u.ended && u.heard < len(u.server.out) {
		u.hear(u.pieces)
	}
}

// told yields the complete messages that the client got.
func (u *unlucky) told(yield func(typ byte, body []byte) bool) {
	for b := u.got; len(b) >= 5; {
		n := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if n > len(b) || !yield(b[0], b[5:n]) {
			return
		}
		b = b[n:]
	}
}

// believes returns the transaction status that the client was told last.
func (u *unlucky) believes() byte {
	status := pgwire.TxIdle
	u.told(func(typ byte, body []byte) bool {
		if typ == 'Z' {
			status = body[0]
		}
		return true
	})
	return status
}

// afterErrors returns the types of the messages that the client got right after an
// error.
func (u *unlucky) afterErrors() string {
	var types []byte
	failed := false
	u.told(func(typ byte, _ []byte) bool {
		if failed {
			types = append(types, typ)
		}
		failed = typ == 'E'
		return true
	})
	return string(types)
}

// batches are what the client says for a statement, in parts after which it may wait.
func (u *unlucky) batches(text string) [][]byte {
	switch u.r.IntN(4) {
	case 0:
		return [][]byte{queryMsg(text)}
	case 1:
		return [][]byte{join(parseMsg("", text), bindMsg(""), exec, sync_)}
	}
	if u.r.IntN(2) == 0 {
		return [][]byte{join(parseMsg("", text), flush), join(bindMsg(""), exec, flush), sync_}
	}
	name := fmt.Sprint("s", u.r.Uint64())
	return [][]byte{join(parseMsg(name, text), sync_), join(bindMsg(name), exec, closeMsg(name), sync_)}
}

// A client that takes no notice of any error is never made to commit a part of a
// transaction block, and gets the end of each batch once, whenever its backends are
// lost.
func TestNoHalfOfABlockIsCommittedWhateverIsLost(t *testing.T) {
	lost, committed := 0, 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 3))
		shared := NewShared()
		u := &unlucky{t: t, r: r, talk: shared.Pooled(1), pieces: 1 + r.IntN(60)}
		if seed%2 == 1 {
			u.talk = shared.Kept(1, Trusting{})
		}
		u.attach(nil)
		u.boundary(u.talk.Stand()) // the login
		var blocks [][]string
		ends, id := 0, 0
		inside := map[string]bool{} // what was said in a block, as far as the client knows
		for range 1 + r.IntN(8) {
			var block []string
			texts := []string{"begin"}
			for range r.IntN(4) {
				if r.IntN(12) == 0 {
					texts = append(texts, "fail")
				}
				id++
				block = append(block, fmt.Sprint(id))
				texts = append(texts, fmt.Sprint("show ", id))
			}
			texts = append(texts, []string{"commit", "commit", "rollback"}[r.IntN(3)])
			blocks = append(blocks, block)
			waits := r.IntN(3) > 0
			for _, text := range texts {
				if waits && !u.ended && u.believes() != pgwire.TxIdle {
					inside[strings.TrimPrefix(text, "show ")] = true
				}
				for _, batch := range u.batches(text) {
					u.say(batch)
					if bytes.HasSuffix(batch, sync_) || batch[0] == 'Q' {
						ends++
					}
					if waits {
						u.drain()
					}
				}
			}
			u.drain()
		}
		lost += len(u.servers)
		for _, s := range u.servers {
			for _, text := range s.alone {
				if inside[text] {
					t.Errorf("seed %d: %s was run outside of its block", seed, text)
				}
			}
			for _, done := range s.commits {
				committed++
				if !slices.ContainsFunc(blocks, func(b []string) bool { return slices.Equal(b, done) }) {
					t.Errorf("seed %d: %v was committed, of %v", seed, done, blocks)
				}
			}
		}
		if after := u.afterErrors(); strings.Trim(after, "Z") != "" {
			t.Errorf("seed %d: after errors came %q", seed, after)
		}
		if !u.ended {
			if got := strings.Count(answers(u.got), "Z "); got != ends {
				t.Errorf("seed %d: %d batches were ended, of %d:\n%s", seed, got, ends, answers(u.got))
			}
		}
		u.talk.End()
		if n := len(shared.statements.byKey); n > 0 {
			t.Errorf("seed %d: %d statements are held by nobody", seed, n)
		}
		if t.Failed() {
			return
		}
	}
	if lost < 1000 || committed < 1000 {
		t.Errorf("only %d backends were used and %d blocks committed", lost, committed)
	}
}
