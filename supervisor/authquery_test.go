package supervisor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func storedOf(user string, timeoutMS int64) *ipc.StoredRequest {
	return &ipc.StoredRequest{ID: 7, User: user, TimeoutMS: timeoutMS}
}

// lookUpWorld has the servers 127.0.0.1:5001 and 127.0.0.2:5002, and auth_query over two connections.
func lookUpWorld(t *testing.T, change ...func(*config.Config)) *world {
	t.Helper()
	w := newWorld(t, 2, append(change, func(c *config.Config) {
		c.AuthQuery, c.AuthQueryConnections, c.Superuser = true, 2, &config.Credential{Name: "s", Password: "q"}
		c.Servers[1].Host = "127.0.0.2"
	})...)
	w.up()
	return w
}

// addressesAsked returns the servers that were asked, in order.
func (w *world) addressesAsked() []string {
	var list []string
	for _, m := range sentTo[*ipc.LookUpRequest](w.prober) {
		list = append(list, m.Target.Address)
	}
	return list
}

func TestWorkersThatAskForTheSamePasswordShareALookUp(t *testing.T) {
	w := lookUpWorld(t)
	for _, f := range w.children[:2] {
		f.message(storedOf("u", 1000))
		f.message(storedOf("v", 1000))
	}
	w.settle()
	asked := sentTo[*ipc.LookUpRequest](w.prober)
	if len(asked) != 2 || asked[0].User != "u" || asked[0].Statement != config.AuthQueryStatement || asked[0].Keep != 2 {
		t.Fatalf("%d look-ups", len(asked))
	}
	want := []ipc.Login{{User: "s", Password: "q", Database: "postgres"}}
	if diff := cmp.Diff(want, asked[0].Target.Logins, cmp.Transformer("reveal", ipc.Secret.Reveal)); diff != "" {
		t.Errorf("login (-want +got):\n%s", diff)
	}
	for _, f := range w.children[:2] {
		got := messagesOf[*ipc.StoredAnswer](f)
		if len(got) != 2 || got[0].Stored.Reveal() != "stored for u" || got[1].Stored.Reveal() != "stored for v" || got[0].Error != "" {
			t.Errorf("%d answers: %v", len(got), got)
		}
	}
}

// TestSomeStoredPasswordsAreNotLookedUp also has requests that were made before a reload.
func TestSomeStoredPasswordsAreNotLookedUp(t *testing.T) {
	for what, tc := range map[string]struct {
		m      *ipc.StoredRequest
		change func(*config.Config)
	}{
		"has an entry":                  {storedOf("has an entry", 1), nil},
		"the superuser":                 {storedOf("s", 1), nil},
		"a database, in one for all":    {&ipc.StoredRequest{ID: 7, User: "u", Database: "d", TimeoutMS: 1}, nil},
		"no database, in each client's": {storedOf("u", 1), func(c *config.Config) { c.AuthQueryDatabase = config.ClientsDatabase }},
		"auth_query is off":             {storedOf("u", 1), func(c *config.Config) { c.AuthQuery = false }},
	} {
		w := lookUpWorld(t)
		w.s.cfg.Users = []config.Credential{{Name: "has an entry"}}
		if tc.change != nil {
			tc.change(w.s.cfg)
		}
		w.children[0].message(tc.m)
		w.settle()
		got := messagesOf[*ipc.StoredAnswer](w.children[0])
		if len(w.addressesAsked()) != 0 || len(got) != 1 || got[0].Error == "" || got[0].Stored != "" || w.children[0].killed {
			t.Errorf("%s: asked %v, answers %v, killed %v", what, w.addressesAsked(), got, w.children[0].killed)
		}
	}
}

func TestAuthQueryAsksInTheClientsDatabase(t *testing.T) {
	w := lookUpWorld(t, func(c *config.Config) { c.AuthQueryDatabase = config.ClientsDatabase })
	for _, database := range []string{"a", "b"} {
		w.children[0].message(&ipc.StoredRequest{User: "u", Database: database, TimeoutMS: 1})
	}
	w.settle()
	asked := sentTo[*ipc.LookUpRequest](w.prober)
	if len(asked) != 2 || asked[0].Target.Logins[0].Database != "a" || asked[1].Target.Logins[0].Database != "b" {
		t.Errorf("%d look-ups", len(asked))
	}
}

func TestTheNextServerIsAskedWhenOneFails(t *testing.T) {
	const one, two = "127.0.0.1:5001", "127.0.0.2:5002"
	failed := func(v *failover.ServerView) { v.State = failover.Failed }
	for name, tc := range map[string]struct {
		refusing []string
		second   func(*failover.ServerView)
		fenced   bool
		want     []string
		err      string
	}{
		"the primary answers":      {want: []string{one}},
		"the primary is down":      {refusing: []string{one}, want: []string{one, two}},
		"all are down":             {refusing: []string{one, two}, want: []string{one, two}, err: "server two: refused"},
		"a failed one isn't asked": {refusing: []string{one}, second: failed, want: []string{one}, err: "server one: refused"},
		"a fenced one isn't asked": {fenced: true, want: []string{two}},
		"nobody is left":           {fenced: true, second: failed, err: errNoLookUp.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			w := lookUpWorld(t)
			w.refusing = tc.refusing
			snap := openAt(0, 1)
			if tc.second != nil {
				tc.second(&snap.Servers[1])
			}
			w.s.publish(snap)
			if tc.fenced {
				w.act(failover.Fence{Epoch: 1, Seq: 1})
				if stops := sentTo[*ipc.LookUpStop](w.prober); len(stops) != 1 || stops[0].Server != 0 {
					t.Errorf("the fence stops %v", stops)
				}
			}
			w.children[0].message(storedOf("u", 1000))
			w.settle()
			if diff := cmp.Diff(tc.want, w.addressesAsked()); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			got := messagesOf[*ipc.StoredAnswer](w.children[0])
			if len(got) != 1 || got[0].ID != 7 || got[0].Error != tc.err || (got[0].Stored == "") != (tc.err != "") {
				t.Errorf("answers: %v", got)
			}
		})
	}
}

// TestLookUpsWaitForAServerDuringAFailover has the primary answer again after a while, and then never.
func TestLookUpsWaitForAServerDuringAFailover(t *testing.T) {
	w := lookUpWorld(t, func(c *config.Config) { c.Failover = true })
	both := []string{"127.0.0.1:5001", "127.0.0.2:5002"}
	w.refusing = both
	f := w.children[0]
	f.message(storedOf("u", 2000))
	w.advance(time.Second)
	if n := len(messagesOf[*ipc.StoredAnswer](f)); n != 0 {
		t.Fatalf("%d answers while there is time", n)
	}
	w.refusing = nil
	w.advance(w.s.cfg.ConnectionRetryDelay)
	if got := messagesOf[*ipc.StoredAnswer](f); len(got) != 1 || got[0].Error != "" {
		t.Fatalf("answers: %v", got)
	}
	w.refusing = both
	f.message(storedOf("v", 2000))
	w.advance(2 * time.Second)
	if got := messagesOf[*ipc.StoredAnswer](f); len(got) != 2 || !strings.Contains(got[1].Error, "refused") {
		t.Errorf("answers: %v", got)
	}
}

// TestFewLookUpsRunAtATime has more users than connections. What has waited too long isn't asked any more.
func TestFewLookUpsRunAtATime(t *testing.T) {
	w := lookUpWorld(t)
	w.prober.mute = true
	f := w.children[0]
	for i := range 4 {
		m := storedOf(fmt.Sprint("u", i), int64(1000-300*i))
		m.ID = uint64(i + 1)
		f.message(m)
	}
	w.settle()
	asked := sentTo[*ipc.LookUpRequest](w.prober)
	if len(asked) != 2 {
		t.Fatalf("%d look-ups at a time", len(asked))
	}
	w.advance(500 * time.Millisecond) // u2 has 400 ms, u3 has 100 ms
	w.prober.message(&ipc.LookUpDone{ID: asked[0].ID, Stored: ipc.Secret(strings.Repeat("x", ipc.MaxStored+1))})
	w.settle()
	w.prober.message(&ipc.LookUpDone{ID: asked[1].ID})
	w.settle()
	errs := map[uint64]string{}
	for _, a := range messagesOf[*ipc.StoredAnswer](f) {
		errs[a.ID] = a.Error
	}
	want := map[uint64]string{1: "server one: more than a stored password", 2: "", 3: errLookUpLate.Error(), 4: errLookUpLate.Error()}
	delete(want, 1) // goes on to the second server
	if diff := cmp.Diff(want, errs); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if got := w.addressesAsked(); len(got) != 3 || got[2] != "127.0.0.2:5002" {
		t.Errorf("asked %v", got)
	}
}

// TestUsersGoBeforeMadeUpNames has two connections, which made-up names keep busy.
func TestUsersGoBeforeMadeUpNames(t *testing.T) {
	w := lookUpWorld(t)
	w.prober.mute = true
	for i := range 5 {
		m := storedOf(fmt.Sprint("nobody", i), 1000)
		m.ID, m.Known = uint64(i+1), i == 4
		w.children[0].message(m)
	}
	w.settle()
	w.prober.message(&ipc.LookUpDone{ID: sentTo[*ipc.LookUpRequest](w.prober)[0].ID})
	w.settle()
	if asked := sentTo[*ipc.LookUpRequest](w.prober); len(asked) != 3 || asked[2].User != "nobody4" {
		t.Errorf("%d look-ups", len(asked))
	}
}

func TestOpenRequestsForStoredPasswordsAreBounded(t *testing.T) {
	w := lookUpWorld(t)
	w.prober.mute = true
	for i := range ipc.MaxStoredRequests + 1 {
		if w.children[0].killed {
			t.Fatalf("killed after %d requests", i)
		}
		w.children[0].message(storedOf(fmt.Sprint("u", i), 1000))
		w.settle()
	}
	if !w.children[0].killed {
		t.Errorf("%d open requests are allowed", ipc.MaxStoredRequests+1)
	}
	w.die(w.children[0])
	w.prober.mute = false
	for _, m := range sentTo[*ipc.LookUpRequest](w.prober) {
		w.prober.message(&ipc.LookUpDone{ID: m.ID})
	}
	w.settle()
	if n := len(messagesOf[*ipc.StoredAnswer](w.children[0])); n != 0 {
		t.Errorf("%d answers to a dead worker", n)
	}
}

// A database that a client has made up is asked for at one server, once.
func TestDatabaseThatIsNotThereIsAskedForOnce(t *testing.T) {
	w := lookUpWorld(t, func(c *config.Config) { c.AuthQueryDatabase = config.ClientsDatabase })
	w.children[0].message(&ipc.StoredRequest{ID: 7, User: "u", Database: "nowhere", TimeoutMS: 5000})
	w.settle()
	got := messagesOf[*ipc.StoredAnswer](w.children[0])
	if len(w.addressesAsked()) != 1 || len(got) != 1 || !strings.Contains(got[0].Error, "no such database") {
		t.Errorf("asked %v, answers %v", w.addressesAsked(), got)
	}
}

func TestAnswerToAnOldStatementIsNotBelieved(t *testing.T) {
	w := lookUpWorld(t)
	w.prober.mute = true
	w.children[0].message(storedOf("u", 5000))
	w.settle()
	asked := sentTo[*ipc.LookUpRequest](w.prober)
	if len(asked) != 1 {
		t.Fatalf("%d look-ups", len(asked))
	}
	w.s.gen++ // as by a reload
	w.prober.message(&ipc.LookUpDone{ID: asked[0].ID, Stored: "old"})
	w.settle()
	got := messagesOf[*ipc.StoredAnswer](w.children[0])
	if asked = sentTo[*ipc.LookUpRequest](w.prober); len(got) != 0 || len(asked) != 2 {
		t.Fatalf("answers %v, %d look-ups", got, len(asked))
	}
	w.prober.message(&ipc.LookUpDone{ID: asked[1].ID, Stored: "new"})
	w.settle()
	if got = messagesOf[*ipc.StoredAnswer](w.children[0]); len(got) != 1 || got[0].Stored.Reveal() != "new" {
		t.Errorf("answers %v", got)
	}
	if w.s.cfg.AuthQuery = false; w.s.service.lookUps.line.underWay != 0 || len(w.s.service.lookUps.asked) != 0 {
		t.Error("a look-up is left")
	}
}

// TestLookUpsLeaveAFencedServerAlone has a look-up under way at the primary, one that waits for a prober, and one that fell
// back to the primary's next address.
func TestLookUpsLeaveAFencedServerAlone(t *testing.T) {
	const one, other, two = "127.0.0.1:5001", "127.0.0.9:5001", "127.0.0.2:5002"
	t.Run("at its next address", func(t *testing.T) {
		w := lookUpWorld(t)
		w.s.publish(openAt(0, 1))
		w.s.servers.where[0].addresses = append(w.s.servers.where[0].addresses, address{"tcp", other})
		w.prober.mute = true
		w.children[0].message(storedOf("u", 1000))
		w.settle()
		w.act(failover.Fence{Epoch: 1, Seq: 1})
		w.prober.message(&ipc.LookUpDone{ID: sentTo[*ipc.LookUpRequest](w.prober)[0].ID, Error: "it is stopped"})
		w.advance(0)
		if diff := cmp.Diff([]string{one, two}, w.addressesAsked()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
	t.Run("after a wait for the prober", func(t *testing.T) {
		w := lookUpWorld(t)
		w.s.publish(openAt(0, 1))
		w.s.servers.prober.end.up = false
		w.children[0].message(storedOf("u", 1000))
		w.settle()
		w.act(failover.Fence{Epoch: 1, Seq: 1})
		w.s.servers.prober.end.up = true
		w.s.sendLooks()
		w.advance(0)
		if diff := cmp.Diff([]string{two}, w.addressesAsked()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
	t.Run("as the next server", func(t *testing.T) {
		w := lookUpWorld(t)
		snap := openAt(1, 1)
		w.s.publish(snap) // the primary is the second one
		w.prober.mute = true
		w.children[0].message(storedOf("u", 1000))
		w.settle()
		snap.Servers[0].State = failover.Failed
		w.s.publish(snap)
		w.prober.message(&ipc.LookUpDone{ID: sentTo[*ipc.LookUpRequest](w.prober)[0].ID, Error: "refused"})
		w.advance(0)
		if diff := cmp.Diff([]string{two}, w.addressesAsked()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// TestALookUpLastsAsLongAsOneOfItsRequests has a client that has hardly any time left, and one that has just come.
func TestALookUpLastsAsLongAsOneOfItsRequests(t *testing.T) {
	w := lookUpWorld(t)
	w.prober.mute = true
	w.children[0].message(storedOf("u", 10))
	late := storedOf("u", 2000)
	late.ID = 8
	w.children[1].message(late)
	w.settle()
	for range 2 {
		asked := sentTo[*ipc.LookUpRequest](w.prober)
		w.prober.message(&ipc.LookUpDone{ID: asked[len(asked)-1].ID, Error: "no answer in 5 ms"})
		w.settle()
	}
	asked := sentTo[*ipc.LookUpRequest](w.prober)
	if len(asked) != 3 || asked[2].Target.TimeoutMS < 500 {
		t.Fatalf("%d look-ups", len(asked))
	}
	w.prober.message(&ipc.LookUpDone{ID: asked[2].ID, Stored: "found"})
	w.settle()
	if got := messagesOf[*ipc.StoredAnswer](w.children[1]); len(got) != 1 || got[0].Stored.Reveal() != "found" {
		t.Errorf("answers %v", got)
	}
}
