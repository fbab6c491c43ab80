package worker

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// greet makes the next two logins look like those of two servers.
func (r *rig) greet() {
	r.greetings = make(chan greeting, 2)
	for i, version := range []string{"15.1", "15.2"} {
		r.greetings <- greeting{pid: uint32(100 + i), params: []pgwire.Param{
			{Name: "client_encoding", Value: "UTF8"}, {Name: "server_version", Value: version}, {Name: "in_hot_standby", Value: "off"},
		}}
	}
}

// heardBefore returns the parameters that a client gets before a message.
func (c *testClient) heardBefore(t *testing.T, typ pgproto3.BackendMessage) []pgwire.Param {
	t.Helper()
	var told []pgwire.Param
	for {
		m, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := m.(*pgproto3.ParameterStatus); ok {
			told = append(told, pgwire.Param{Name: p.Name, Value: p.Value})
		}
		if kindOf(m) == kindOf(typ) {
			return told
		}
	}
}

var newVersion = []pgwire.Param{{Name: "server_version", Value: "15.2"}}

// moves moves a client from the first server to the second, and returns the second server's
// end, which still has to answer a query.
func moves(t *testing.T, r *rig, leave func(tc *testClient, old *serverEnd)) (*testClient, *serverEnd) {
	t.Helper()
	r.greet()
	tc, old := r.enter(1)
	leave(tc, old)
	r.grant(expect[*ipc.LeaseRequest](r).ID)
	srv := r.nextLogin()
	t.Cleanup(func() { srv.Close() })
	if _, err := tc.Write(query); err != nil {
		t.Fatal(err)
	}
	if typ, _, err := pgwire.ReadMessage(srv.r, 1000); err != nil || typ != 'Q' {
		t.Fatalf("%q, %v", typ, err)
	}
	return tc, srv
}

// A session without an open query gets another backend and notices nothing but the
// parameters that differ there. Its cancel key works on the new backend.
func TestSessionThatMovesIsToldAndCanCancel(t *testing.T) {
	failover := ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000, Failover: true, ConnectionRetryMS: 10}
	for name, leave := range map[string]func(*rig, *testClient, *serverEnd){
		"server died": func(_ *rig, _ *testClient, old *serverEnd) { old.Close() },
		"planned":     func(r *rig, _ *testClient, _ *serverEnd) { r.send(&ipc.Quiesce{ID: 9, Epoch: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, failover)
			tc, srv := moves(t, r, func(tc *testClient, old *serverEnd) { leave(r, tc, old) })
			var key cancelKey
			r.do(func() { key = tc.s.key })
			if key.pid != 100 {
				t.Errorf("the client has the process id %d", key.pid)
			}
			cancelled := make(chan struct{})
			r.do(func() { r.w.cancel(key, func() { close(cancelled) }) })
			if pid := wait(t, r.cancels, "a cancel request"); pid != 101 {
				t.Errorf("process %d is cancelled, not the one that serves the client", pid)
			}
			wait(t, cancelled, "the end of the cancel request")
			if _, err := srv.Write(ready("I")); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(newVersion, tc.heardBefore(t, &pgproto3.ReadyForQuery{})); d != "" {
				t.Errorf("told (-want +got):\n%s", d)
			}
		})
	}
}

// A client of the transaction pipeline gets the parameters that differ, too: its tracked
// parameters are set on each backend, but others have the server's values.
func TestPooledClientIsToldOfParametersThatDoNotFollowIt(t *testing.T) {
	r := newRig(t, pooling())
	tc, srv := moves(t, r, func(tc *testClient, old *serverEnd) {
		old.Close()
		expect[*ipc.LeaseReturn](r)
		if _, err := tc.Write(query); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := srv.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(newVersion, tc.heardBefore(t, &pgproto3.ReadyForQuery{})); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if _, err := srv.Write(ready("I")); err != nil {
		t.Fatal(err)
	}
	if told := tc.heardBefore(t, &pgproto3.ReadyForQuery{}); told != nil {
		t.Errorf("told again: %v", told)
	}
}
