package supervisor

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// severalAddresses has a worker die with one backend on a server of several addresses, of which
// some refuse.
func severalAddresses(t *testing.T, refusing ...string) *world {
	w := newWorld(t, 2, withProbeUser)
	w.up()
	w.shown = func() ([]uint32, error) { return nil, nil }
	w.s.servers.where[0].addresses = []address{{"tcp", "192.0.2.1:5001"}, {"tcp", "192.0.2.2:5001"}, {"tcp", "192.0.2.3:5001"}}
	w.refusing = refusing
	return w
}

func TestOrphansAreCancelledAndLookedForAtTheNextAddress(t *testing.T) {
	w := severalAddresses(t, "192.0.2.1:5001", "192.0.2.2:5001")
	orphan(w)
	w.advance(2 * orphanFirst)
	if diff := cmp.Diff([]uint32{42}, w.canceled); diff != "" {
		t.Error("canceled:", diff)
	}
	if n := w.s.ledger.Counts().Total; n != 0 || len(w.asked) != 1 {
		t.Errorf("%d leases, %d looks for orphans", n, len(w.asked))
	}
	var at []string
	for _, m := range sentTo[*ipc.ServerCancel](w.prober) {
		at = append(at, m.Target.Address)
		if len(m.Target.Logins) != 0 {
			t.Error("a cancel request has logins")
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.1:5001", "192.0.2.2:5001", "192.0.2.3:5001"}, at); diff != "" {
		t.Error("addresses:", diff)
	}
}

func TestOrphanIsGivenUpWhenEveryAddressHasRefused(t *testing.T) {
	w := severalAddresses(t, "192.0.2.1:5001", "192.0.2.2:5001", "192.0.2.3:5001")
	orphan(w)
	w.advance(2 * orphanFirst)
	if n := len(sentTo[*ipc.ServerCancel](w.prober)); n != 3 || len(w.s.cancels.orphans) != 0 {
		t.Errorf("%d cancel requests, %d in progress", n, len(w.s.cancels.orphans))
	}
	if n := len(sentTo[*ipc.BackendsRequest](w.prober)); n != 3 {
		t.Errorf("%d looks for orphans", n)
	}
}

// An address that keeps silent leaves the others their share of the time.
func TestAddressesShareTheTimeOfACancelRequest(t *testing.T) {
	w := severalAddresses(t)
	w.prober.mute = true
	orphan(w)
	asked := sentTo[*ipc.ServerCancel](w.prober)
	if len(asked) != 1 || asked[0].Target.TimeoutMS != cancelLimit.Milliseconds()/3 {
		t.Fatalf("the first address is asked %+v", asked)
	}
	w.advance(cancelLimit / 4)
	w.prober.message(&ipc.ServerCancelDone{ID: asked[0].ID, Error: "timeout"})
	w.settle()
	asked = sentTo[*ipc.ServerCancel](w.prober)
	if len(asked) != 2 || asked[1].Target.TimeoutMS != (cancelLimit-cancelLimit/4).Milliseconds()/2 {
		t.Fatalf("the second address is asked %+v", asked)
	}
}

func TestFenceKeepsACancelRequestFromTheNextAddress(t *testing.T) {
	w := severalAddresses(t)
	w.prober.mute = true
	orphan(w)
	w.act(failover.Fence{Epoch: 1, Seq: 1})
	w.say(w.children[1], &ipc.Fenced{Epoch: 1, Seq: 1})
	w.prober.message(&ipc.ServerCancelDone{ID: sentTo[*ipc.ServerCancel](w.prober)[0].ID, Error: "context canceled"})
	w.advance(time.Millisecond)
	if n := len(sentTo[*ipc.ServerCancel](w.prober)); n != 1 || len(eventsOf[failover.Fenced](w)) != 1 {
		t.Errorf("%d cancel requests, %d reports of the fence", n, len(eventsOf[failover.Fenced](w)))
	}
}

// A rehearsal asks a server for its settings wherever it answers.
func TestSettingsAreReadAtTheNextAddress(t *testing.T) {
	w := severalAddresses(t)
	w.settings = func(t ipc.Target) (map[string]string, error) {
		if t.Address == "192.0.2.1:5001" {
			return nil, errors.New("refused")
		}
		return map[string]string{"wal_level": "replica"}, nil
	}
	r := &rehearsal{Rehearsal: &failover.Rehearsal{}, done: func(control.RehearsalResponse, error) {}}
	w.s.rehearse(r)
	w.settle()
	if r.settings[0]["wal_level"] != "replica" {
		t.Errorf("settings: %v", r.settings)
	}
}

// A worker gets what answers a server's question wherever the server answers the prober.
func TestServerIsAskedForItsQuestionAtTheNextAddress(t *testing.T) {
	w := secretWorld(t)
	w.s.servers.where[0].addresses = []address{{"tcp", "192.0.2.1:5001"}, {"tcp", "192.0.2.2:5001"}}
	w.refusing = []string{"192.0.2.1:5001"}
	m := askedFor("u", ipc.LoginMD5)
	w.question = m.Question
	if got := w.told(w.children[0], m); got.Error != "" {
		t.Error(got.Error)
	}
	asked := sentTo[*ipc.QuestionRequest](w.prober)
	if len(asked) != 2 || len(asked[1].Target.Logins) != 1 || asked[1].Target.Logins[0].User != "u" {
		t.Errorf("asked %+v", asked)
	}
}
