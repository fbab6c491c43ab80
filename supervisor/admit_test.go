package supervisor

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// limitedWorld has a worker, limits of clients, and an admin called dba.
func limitedWorld(t *testing.T, change func(*config.Config)) *world {
	t.Helper()
	w := newWorld(t, 1, func(c *config.Config) {
		c.Admins = []config.Credential{{Name: "dba"}}
		change(c)
	})
	w.up()
	return w
}

// last returns the client that the worker got last.
func (w *world) last() *ipc.NewClient {
	all := messagesOf[*ipc.NewClient](w.children[0])
	return all[len(all)-1]
}

// admission has the worker ask for the client that it got last, and returns the answer.
func (w *world) admission(user string, count bool) *ipc.AdmitAnswer {
	w.t.Helper()
	f, before := w.children[0], len(messagesOf[*ipc.AdmitAnswer](w.children[0]))
	w.say(f, &ipc.AdmitRequest{Client: w.last().ID, User: user, Database: "d", Count: count})
	if len(messagesOf[*ipc.AdmitAnswer](f)) == before {
		w.advance(leaveGrace)
	}
	all := messagesOf[*ipc.AdmitAnswer](f)
	if len(all) != before+1 {
		w.t.Fatalf("%d answers", len(all)-before)
	}
	return all[before]
}

func (w *world) wantAdmission(user string, count bool, message string) {
	w.t.Helper()
	told := ""
	if got := w.admission(user, count); got.Refusal != 0 {
		told = pgwire.Refusal(got.Refusal).WithWords(got.Words).Error()
	}
	if told != message {
		w.t.Errorf("%s is told %q, want %q", user, told, message)
	}
}

func TestClientsAskOnlyNearTheLimit(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClients, c.ReservedConnections = 4, 1 })
	for i, asks := range []bool{false, false, false, true} {
		if w.arrive(); w.last().Ask != asks {
			t.Errorf("client %d asks: %v", i, !asks)
		}
	}
	w.wantAdmission("anyone", false, "the last places of max_clients are reserved for admins")
	w.wantAdmission("dba", false, "")
	w.arrive()
	w.wantAdmission("dba", false, "too many clients, the limit is max_clients")
}

// A client that leaves meanwhile makes room.
func TestAClientOverTheLimitWaitsAMoment(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClients = 1 })
	w.arrive()
	first := w.last().ID
	w.arrive()
	w.say(w.children[0], &ipc.AdmitRequest{Client: w.last().ID, User: "u", Database: "d"})
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{first}})
	w.advance(leaveGrace)
	answers := messagesOf[*ipc.AdmitAnswer](w.children[0])
	if len(answers) != 1 || answers[0].Refusal != 0 {
		t.Errorf("it is told %+v", answers)
	}
}

// Refused clients don't count: one place is free, and one of three gets it.
func TestPendingClientsHoldNoPlace(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClients = 2 })
	w.arrive()
	first := w.last().ID
	for range 4 {
		w.arrive()
	}
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{first}})
	w.wantAdmission("u", false, "")
	if n := w.s.admitted(); n != 2 {
		t.Errorf("%d are in", n)
	}
}

// A flood of refused clients is bounded: beyond the bound the supervisor refuses them itself.
func TestAFloodOfRefusedClientsIsBounded(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClients = 1 })
	for range maxPending + 50 {
		w.arrive()
	}
	if n := w.clients()[0]; n != maxPending+1 {
		t.Errorf("the worker got %d clients", n)
	}
}

func TestNamesAreCountedUntilTheClientLeaves(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClientsPerUser = 1 })
	w.arrive()
	first := w.last()
	if first.Ask {
		t.Error("it must ask before it logs in")
	}
	w.wantAdmission("u", true, "")
	w.arrive()
	w.wantAdmission("u", true, `too many clients of user "u", the limit is max_clients_per_user`)
	w.wantAdmission("other", true, "")
	w.say(w.children[0], &ipc.ClientsGone{IDs: []uint64{first.ID}})
	w.arrive()
	w.wantAdmission("u", true, "")
	w.die(w.children[0])
	if d := cmp.Diff(census{pending: map[uint64]bool{}, named: map[uint64]clientNames{}, users: map[string]int{}, databases: map[string]int{}},
		w.s.clients.census, cmp.AllowUnexported(census{})); w.s.clients.census.pending != nil && d != "" || len(w.s.clients.census.named)+len(w.s.clients.census.users) > 0 {
		t.Errorf("the dead worker's clients still count: %+v", w.s.clients.census)
	}
}

func TestLiesAboutClientsAreViolations(t *testing.T) {
	for name, lie := range map[string]func(w *world) *ipc.AdmitRequest{
		"of nobody": func(*world) *ipc.AdmitRequest { return &ipc.AdmitRequest{Client: 77} },
		"twice": func(w *world) *ipc.AdmitRequest {
			w.wantAdmission("u", true, "")
			return &ipc.AdmitRequest{Client: w.last().ID, User: "u", Database: "d", Count: true}
		},
		"long names": func(w *world) *ipc.AdmitRequest {
			return &ipc.AdmitRequest{Client: w.last().ID, User: fmt.Sprintf("%*d", ipc.MaxKey+1, 1)}
		},
	} {
		w := limitedWorld(t, func(c *config.Config) { c.MaxClientsPerUser = 1 })
		w.arrive()
		if w.say(w.children[0], lie(w)); !w.children[0].killed {
			t.Errorf("%s: the worker lives", name)
		}
	}
}

func TestDisabledDatabasesAreListed(t *testing.T) {
	var d disabled
	step := func(database string, disable bool, want ...control.Database) {
		t.Helper()
		if err := d.set(database, disable); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.list(), cmp.Transformer("", func(l []control.Database) map[string]bool {
			m := map[string]bool{}
			for _, x := range l {
				m[x.Database] = x.Enabled
			}
			return m
		})); diff != "" {
			t.Error(diff)
		}
	}
	off := func(name string) control.Database { return control.Database{Database: name} }
	on := func(name string) control.Database { return control.Database{Database: name, Enabled: true} }
	step("a", true, off("a"))
	step("b", true, off("a"), off("b"))
	step("a", false, off("b"))
	step("*", true, off("*"))
	step("b", true, off("*"))
	step("b", false, off("*"), on("b"))
	if d.is("b") || !d.is("a") {
		t.Error("the exception isn't kept")
	}
	step("all", false)
	for i := range maxDisabled {
		if err := d.set(fmt.Sprint(i), true); err != nil {
			t.Fatal(err)
		}
	}
	if d.set("one more", true) == nil {
		t.Error("there is no bound")
	}
}

func TestRefusalsOfClientsAreLoggedNowAndThen(t *testing.T) {
	w := limitedWorld(t, func(c *config.Config) { c.MaxClients = 1 })
	for range 10 {
		w.s.turnAway(pgwire.RefusalReserved.With())
	}
	if w.s.clients.away != 9 {
		t.Errorf("%d are left for the next line", w.s.clients.away)
	}
	w.advance(awayEvery + time.Second)
	w.s.turnAway(pgwire.RefusalReserved.With())
	if w.s.clients.away != 0 {
		t.Errorf("%d are left after the next line", w.s.clients.away)
	}
}
