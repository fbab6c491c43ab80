package worker

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// Of two clients that each have a request for a lease, the first gets the first backend. The
// other must keep a request.
func TestWaiterWhoseBackendWentToAnotherGetsOne(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10})
	first := r.connect(1)
	req1 := expect[*ipc.LeaseRequest](r)
	second := r.connect(2)
	req2 := expect[*ipc.LeaseRequest](r)
	// The first client's backend can't be opened now.
	var addr []string
	r.do(func() {
		addr = r.w.servers.Servers[0].Addresses
		r.w.servers.Servers[0].Addresses = []string{"127.0.0.1:1"}
	})
	r.grant(req1.ID)
	expect[*ipc.LeaseReturn](r)
	r.do(func() { r.w.servers.Servers[0].Addresses = addr })
	r.grant(req2.ID)
	first.until(t, &pgproto3.ReadyForQuery{})
	// On a busy machine a request may have been withdrawn and made again meanwhile.
	served := make(chan struct{})
	go second.closeWhenReady(served)
	r.grantUntil(served)
}

// Clients that wait for a server that can't be reached try it one at a time.
func TestAServerThatCannotBeReachedIsTriedOnceAtATime(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10})
	var addr []string
	r.do(func() {
		addr = r.w.servers.Servers[0].Addresses
		r.w.servers.Servers[0].Addresses = []string{"127.0.0.1:1"}
	})
	clients := make([]*testClient, 8)
	for i := range clients {
		clients[i] = r.connect(uint64(i + 1))
	}
	r.failUntil(len(clients)) // those that were asked for before the first failure
	for range 3 {
		req := expect[*ipc.LeaseRequest](r)
		r.do(func() {
			if n := r.pool().Asked() + r.pool().Coming(); n != 1 {
				t.Errorf("%d attempts are under way", n)
			}
		})
		r.grant(req.ID)
		expect[*ipc.LeaseReturn](r)
	}
	r.do(func() { r.w.servers.Servers[0].Addresses = addr })
	for _, c := range clients {
		served := make(chan struct{})
		go c.closeWhenReady(served)
		r.grantUntil(served)
	}
}

// A backend from another worker also shows that the server can be reached: all waiting
// clients ask at once again.
func TestABackendOfAnotherWorkerEndsTheTryingOneAtATime(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10})
	r.do(func() { r.w.servers.Servers[0].Addresses = []string{"127.0.0.1:1"} })
	for id := range uint64(4) {
		r.connect(id + 1)
	}
	r.failUntil(4)
	req := expect[*ipc.LeaseRequest](r).ID
	fd, _ := serverOf(t)
	r.sendFD(&ipc.TakeOver{ID: req, Lease: 9, Backend: ipc.BackendState{Key: poolD, Epoch: 1, PID: 77, Secret: "abcd"}}, fd)
	limit, tick := time.After(generous), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for asked := 0; asked < 3; {
		r.do(func() {
			asked = r.pool().Asked()
		})
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d of three clients that wait are asked for", asked)
		}
	}
}

// failUntil grants every request, but no backend can be opened, until so many leases were
// returned.
func (r *rig) failUntil(returned int) {
	r.t.Helper()
	limit := time.After(generous)
	for returned > 0 {
		select {
		case m := <-r.msgs:
			switch m := m.(type) {
			case *ipc.LeaseRequest:
				r.grant(m.ID)
			case *ipc.LeaseReturn:
				returned--
			}
		case <-limit:
			r.t.Fatalf("%d leases were not returned", returned)
		}
	}
}

// closeWhenReady closes served when the client's login is complete. If it never is, the wait
// for served fails.
func (c *testClient) closeWhenReady(served chan<- struct{}) {
	for {
		m, err := c.Receive()
		if err != nil {
			return
		}
		if _, ready := m.(*pgproto3.ReadyForQuery); ready {
			close(served)
			return
		}
	}
}
