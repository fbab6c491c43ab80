package worker

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// peers has the open questions to the supervisor about clients' addresses. It belongs to
// the loop.
type peers struct {
	lastID uint64
	asked  map[uint64]peerQuestion
	asking map[peerQuestion][]func(*ipc.PeerAnswer)
}

// peerQuestion is what a PeerRequest asks.
type peerQuestion struct {
	address netip.Addr
	hosts   bool
}

func newPeers() peers {
	return peers{asked: map[uint64]peerQuestion{}, asking: map[peerQuestion][]func(*ipc.PeerAnswer){}}
}

// match returns the rule that applies to a client. If a rule needs host names or this
// machine's addresses, match asks the supervisor for them.
func (s *setup) match(f auth.Facts) (auth.Rule, bool) {
	var has []auth.Need
	for need := auth.Missing(s.cfg.hba, f); need != auth.NeedNothing; need = auth.Missing(s.cfg.hba, f, has...) {
		has = append(has, need)
		a := s.askPeer(peerQuestion{f.Addr.WithZone("").Unmap(), need == auth.NeedHosts})
		if need == auth.NeedHosts {
			f.Hosts = a.Hosts
			continue
		}
		for _, text := range a.Own {
			if p, err := netip.ParsePrefix(text); err == nil {
				f.Own = append(f.Own, p)
			}
		}
	}
	return auth.Match(s.cfg.hba, f)
}

// errManyPeers says why a client's address isn't looked up. Rules with host names, samehost
// or samenet then don't apply to the client.
var errManyPeers = errors.New("too many clients wait for the look-up of their addresses")

// askPeer asks the supervisor about an address and waits for the answer, which the
// supervisor gives within a time limit. The answer is empty if too many clients wait.
func (s *setup) askPeer(q peerQuestion) (answer *ipc.PeerAnswer) {
	s.d.await(func(done func()) {
		s.w.askPeer(q, func(a *ipc.PeerAnswer) {
			answer = a
			done()
		})
	})
	if answer == nil {
		s.log.Warn("client's address isn't looked up", "address", s.c.addr, "error", errManyPeers)
		return &ipc.PeerAnswer{}
	}
	return answer
}

// askPeer sends a question, unless the same question is already open. told gets nil if there
// are too many open questions.
func (w *worker) askPeer(q peerQuestion, told func(*ipc.PeerAnswer)) {
	x := &w.peers
	if waiting, ok := x.asking[q]; ok {
		x.asking[q] = append(waiting, told)
		return
	}
	if len(x.asked) >= ipc.MaxPeerRequests {
		told(nil)
		return
	}
	x.lastID++
	x.asked[x.lastID], x.asking[q] = q, []func(*ipc.PeerAnswer){told}
	w.send(&ipc.PeerRequest{ID: x.lastID, Address: q.address.String(), Hosts: q.hosts})
}

func (w *worker) onPeerAnswer(m *ipc.PeerAnswer) {
	q, ok := w.peers.asked[m.ID]
	if !ok {
		return
	}
	waiting := slices.Clone(w.peers.asking[q])
	delete(w.peers.asked, m.ID)
	delete(w.peers.asking, q)
	for _, told := range waiting {
		told(m)
	}
}
