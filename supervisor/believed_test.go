package supervisor

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// These tests show what nothing can check of a worker or the prober. pgagroal-privsep(7)
// says so: whoever makes one of them fail has made the page wrong.

// The connection of the backend that is given back stays open here.
func TestAConnectionThatIsGivenBackIsBelievedToBeClosed(t *testing.T) {
	w, m := handOverWorld(t)
	fd, server := w.connection()
	defer unix.Close(fd)
	w.say(w.children[0], &ipc.LeaseReturn{Lease: m.Lease})
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[1])); n != 1 || w.children[0].killed {
		t.Errorf("%d grants for the one who waits, killed: %v", n, w.children[0].killed)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("the connection is cut: %v", err)
	}
}

// No such parameter and no such statement is at the server.
func TestTheStateOfABackendIsBelieved(t *testing.T) {
	w, m := handOverWorld(t)
	m.Backend.Params = []ipc.Setting{{Name: "search_path", Value: "a lie"}}
	m.Backend.Statements = []ipc.PreparedStatement{{}}
	fd, _ := w.connection()
	defer unix.Close(fd)
	w.say(w.children[0], m, fd)
	got := messagesOf[*ipc.TakeOver](w.children[1])
	if len(got) != 1 || w.children[0].killed || !cmp.Equal(m.Backend, got[0].Backend) {
		t.Errorf("%d backends are passed on, killed: %v", len(got), w.children[0].killed)
	}
}

func TestWhereAUnixSocketLeadsIsBelieved(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "another"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := leadsTo(int(f.Fd()), address{network: "unix", address: "/run/postgresql/.s.PGSQL.5432"}); err != nil {
		t.Error(err)
	}
}

func TestWhatAServerShowedAtALoginIsBelieved(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	lease := w.lease(w.children[0], key("u"))
	w.say(w.children[0], &ipc.LoginSeen{Lease: lease, Version: "99", HotStandby: ipc.StandbyOn, NoPassword: true})
	want := []failover.LoginSeen{{Server: 0, Epoch: 1, Hot: failover.HotStandbyOn}}
	if diff := cmp.Diff(want, eventsOf[failover.LoginSeen](w)); diff != "" {
		t.Error(diff)
	}
	if v, u := w.s.servers.versions[0], w.s.servers.noPass[0]; v != "99" || u == nil || u.user != "u" {
		t.Errorf("version %q, without a password %+v", v, u)
	}
}

func TestHintsAndAgesAreBelieved(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.act(failover.AskActivity{Server: 0})
	w.say(w.children[0], &ipc.Hint{Kind: ipc.HintReset, Epoch: 1})
	w.advance(0)
	w.say(w.children[0], &ipc.Activity{ID: 1, AgesMS: []int64{0, -1}})
	if n := len(eventsOf[failover.Hinted](w)); n != 1 {
		t.Errorf("%d hints", n)
	}
	if diff := cmp.Diff([]failover.Activity{{Server: 0}}, eventsOf[failover.Activity](w)); diff != "" {
		t.Error(diff)
	}
}

// The worker names users whom it has never seen.
func TestAWorkerCanTakeEveryConnectionForAnybody(t *testing.T) {
	w := newWorld(t, 2) // of 4 connections
	w.up()
	for _, user := range []string{"a", "b", "c", "d"} {
		w.lease(w.children[0], key(user))
	}
	w.say(w.children[1], &ipc.LeaseRequest{ID: 1, Key: key("u")})
	if n := len(messagesOf[*ipc.LeaseGrant](w.children[1])); n != 0 || w.children[0].killed {
		t.Errorf("%d connections for the other worker, killed: %v", n, w.children[0].killed)
	}
}

func TestWhatTheProberSaysIsBelieved(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	w.prober.mute = true
	for i, tt := range []struct {
		lie  ipc.Outcome
		want failover.Outcome
	}{{ipc.SawRefused, failover.SawRefused}, {ipc.SawPrimary, failover.SawPrimary}} {
		id := uint64(i + 1) // the supervisor counts its looks
		w.probeOnce(id)
		w.prober.message(&ipc.ProbeDone{ID: id, Outcome: tt.lie})
		w.settle()
		if seen := w.lastProbe(); seen.Outcome != tt.want || w.prober.killed {
			t.Errorf("%+v, killed: %v", seen, w.prober.killed)
		}
	}
}

// A worker does the handshakes, so it has the keys: its own for clients, and that for each server.
func TestWorkersHaveThePrivateKeysOfTLS(t *testing.T) {
	w := newWorld(t, 1)
	w.s.tls = ipc.ClientTLS{Pairs: 1}
	w.s.clientTLS = ipc.ServerTLS{Server: ipc.ForClients, Certificate: "shown", Key: "secret of ours"}.Split()
	w.s.serverTLS = ipc.ServerTLS{Server: 1, Mode: "require", Certificate: "shown", Key: "secret for b"}.Split()
	w.up()
	begin, parts := messagesOf[*ipc.ConfigBegin](w.children[0]), messagesOf[*ipc.ConfigTLS](w.children[0])
	if len(begin) != 1 || begin[0].TLS.Pairs != 1 {
		t.Errorf("for clients: %d configurations, or no pair", len(begin))
	}
	keys := map[int]string{}
	for _, p := range parts {
		keys[p.Part.Server] += p.Part.Key.Reveal()
	}
	if keys[ipc.ForClients] != "secret of ours" || keys[1] != "secret for b" || len(parts) != 2 {
		t.Errorf("%d parts, keys %v", len(parts), keys)
	}
}
