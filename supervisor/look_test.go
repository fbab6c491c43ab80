package supervisor

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// reported has the only worker answer a request for a report.
func (w *world) reported(f *fakeChild, m *ipc.ReportRequest, sessions ...ipc.ReportSession) (r *report) {
	w.t.Helper()
	w.s.askReportsFor(m, func(got *report) { r = got })
	w.settle()
	all := messagesOf[*ipc.ReportRequest](f)
	id := all[len(all)-1].ID
	w.say(f, &ipc.Report{ID: id})
	for _, x := range sessions {
		x.ID = id
		w.say(f, &x)
	}
	w.say(f, &ipc.ReportEnd{ID: id})
	if r == nil {
		w.t.Fatal("the report isn't complete")
	}
	return r
}

func TestClientsPoolsAndServersAreListed(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	for range 4 {
		w.letIn(f)
	}
	r := w.reported(f, &ipc.ReportRequest{Clients: true},
		ipc.ReportSession{ClientID: 9, State: "active", Database: "d", User: "u", Start: 5, Server: 1, PID: 42, Lease: 1, AppName: "app", Client: "192.0.2.7:1"},
		ipc.ReportSession{ClientID: 3, State: "login", Server: -1})
	if d := cmp.Diff([]control.Client{
		{ID: 3, State: "login", Worker: 1001},
		{ID: 9, State: "active", Database: "d", Username: "u", AppName: "app", Client: "192.0.2.7:1", StartTime: 5, PID: 42, Server: "two", Worker: 1001},
	}, w.s.clientsResponse(r).Clients); d != "" {
		t.Errorf("clients (-want +got)\n%s", d)
	}
	now := w.s.env.wall().Unix()
	r = w.reported(f, &ipc.ReportRequest{Sessions: true},
		ipc.ReportSession{Lease: 1, State: "in_use", Database: "shop", User: "u"}, ipc.ReportSession{Lease: 2, State: "free", Database: "d", User: "v", Server: 1},
		ipc.ReportSession{State: "waiting", Database: "d", User: "v", Server: -1, Since: now - 90, WaitingSince: now - 3}, ipc.ReportSession{State: "waiting", Database: "d", User: "v", Server: -1, Since: now - 90, WaitingSince: now - 7})
	if d := cmp.Diff([]control.Pool{
		{Database: "d", Username: "v", Idle: 1, Waiting: 2, Waited: 7}, {Database: "shop", Username: "u", Active: 1},
	}, w.s.poolsResponse(r).Pools); d != "" {
		t.Errorf("pools (-want +got)\n%s", d)
	}
	var counts [][2]int
	for _, sv := range w.s.serversResponse(r).Servers {
		counts = append(counts, [2]int{sv.Active, sv.Idle})
	}
	if d := cmp.Diff([][2]int{{1, 0}, {0, 1}}, counts); d != "" {
		t.Errorf("connections of servers (-want +got)\n%s", d)
	}
}

func TestKickGoesToTheWorkerOfTheClient(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.letIn(w.children[0])
	w.letIn(w.children[1])
	for _, tt := range []struct {
		client uint64
		found  bool
		want   error
	}{{2, true, nil}, {2, false, errNoClient}, {3, false, errNoClient}} {
		var got error
		answered := false
		w.s.kick(tt.client, func(err error) { got, answered = err, true })
		w.settle()
		for tries := 0; tt.client == 2 && !answered; tries++ {
			kicks := messagesOf[*ipc.Kick](w.children[1])
			w.say(w.children[1], &ipc.Kicked{ID: kicks[len(kicks)-1].ID, Found: tt.found})
			if tries > 1 {
				t.Fatal("it goes on asking")
			}
		}
		if !answered || !errors.Is(got, tt.want) {
			t.Errorf("client %d: %v, want %v", tt.client, got, tt.want)
		}
	}
	if n := len(messagesOf[*ipc.Kick](w.children[0])); n != 0 {
		t.Error("another worker was asked")
	}
}

// A worker may take a while for a long list; clients that leave meanwhile are no reason to take it for a liar.
func TestClientsMayLeaveWhileTheyAreReported(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	for range 3 {
		w.letIn(f)
	}
	done := false
	w.s.askReportsFor(&ipc.ReportRequest{Clients: true}, func(*report) { done = true })
	w.settle()
	id := messagesOf[*ipc.ReportRequest](f)[0].ID
	w.say(f, &ipc.Report{ID: id})
	w.say(f, &ipc.ReportSession{ID: id, ClientID: 1})
	w.say(f, &ipc.ReportSession{ID: id, ClientID: 2})
	w.say(f, &ipc.ClientsGone{IDs: []uint64{1, 2}})
	w.say(f, &ipc.ReportSession{ID: id, ClientID: 3})
	w.say(f, &ipc.ReportEnd{ID: id})
	if f.killed || !done {
		t.Errorf("killed: %t, answered: %t", f.killed, done)
	}
}
