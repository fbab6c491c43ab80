package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// hint makes a server section say that it is the primary.
func hint(servers []Server, i int) []Server {
	servers[i-1].More = map[string]string{"primary": "on"}
	return servers
}

// noCandidate sets failover_candidate = off.
func noCandidate(servers []Server, is ...int) []Server {
	for _, i := range is {
		servers[i-1].More = map[string]string{"failover_candidate": "off"}
	}
	return servers
}

func TestTheWritableServerIsThePrimaryWhateverTheHintSays(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{servers: hint(nodes(c), 2)})
	s.opened("n1")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.p.WaitState("n1", "Primary")
	s.p.WaitState("n2", "Replica")
	s.nothingRan()
}

// forked makes n2 a primary of timeline 2 beside n1 on timeline 1.
func forked(t *testing.T, standbys int) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	must(t, c.Nodes[1].Promote(within(t)))
	return c
}

// behind returns a scene whose state file records n2 on timeline 2; n2 is dead,
// and n1, never used, is writable on timeline 1.
func behind(t *testing.T, keys map[string]string) *scene {
	t.Helper()
	c := forked(t, 1)
	must(t, c.Nodes[0].Kill())
	s := play(t, c, plan{keys: keys})
	s.opened("n2")
	s.p.Stop()
	must(t, c.Nodes[1].Kill())
	must(t, c.Nodes[0].Start(within(t)))
	s.p.Restart()
	s.held("n1 is writable on timeline 1, but the state file records n2 on timeline 2")
	return s
}

func TestAServerOfAnOlderTimelineThanRecordedGetsNoClientsUntilCleared(t *testing.T) {
	t.Parallel()
	s := behind(t, map[string]string{"failover_client_wait": "300ms"})
	s.refused(s.logIn(), "57P03")
	if out, errs, code := s.p.CLI("clear", "server", "n2"); code != 0 {
		t.Fatalf("clear server n2: exit %d\n%s%s", code, out, errs)
	}
	s.opened("n1")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.nothingRan()
}

func TestLoginsHeldForANewerTimelineAreServedOnceItIsSeen(t *testing.T) {
	t.Parallel()
	s := behind(t, nil)
	waiting := s.logIn()
	must(t, s.node(2).Start(within(t)))
	if got := at(t, s.served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.p.WaitState("n1", "Failed (split brain)")
	s.nothingRan()
}

// failedOver returns a scene after one failover from n1, dead, to n2, the first
// of equals, which is open and verified, with the notify script done.
func failedOver(t testing.TB, standbys int) *scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.told("notify")
	return s
}

func TestOfTwoWritableServersTheRecordedPrimaryWins(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Stop()
	must(t, c.Nodes[1].Promote(within(t))) // a higher timeline, but nobody recorded it
	s.p.Restart()
	s.opened("n1")
	s.p.WaitState("n2", "Failed (split brain)")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.alarmed("never used: n2")
	s.nothingRan()
}

func TestOfTwoWritableServersTheHigherTimelineWinsWithoutARecord(t *testing.T) {
	t.Parallel()
	c := forked(t, 1)
	s := play(t, c, plan{servers: hint(nodes(c), 1)})
	s.opened("n2")
	s.p.WaitState("n1", "Failed (split brain)")
	if got := at(t, s.p.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.nothingRan()
}

func TestTwoWritableServersOfOneTimelineAreReportedAndGetNoClients(t *testing.T) {
	t.Parallel()
	c := forked(t, 2)
	must(t, c.Nodes[2].Promote(within(t)))
	must(t, c.Nodes[0].Kill())
	s := play(t, c, plan{servers: nodes(c)[1:], keys: map[string]string{"failover_client_wait": "300ms"}})
	s.held("several servers are writable on the same timeline")
	for _, name := range []string{"n2", "n3"} {
		s.p.WaitState(name, "Failed (split brain)")
	}
	s.alarmed("n2 n3")
	s.refused(s.logIn(), "57P03")
	if got := s.p.JSON("status")["SplitBrain"]; got != "Yes" {
		t.Errorf("status says SplitBrain %v, want Yes", got)
	}
	s.nothingRan()
}

func TestWithoutAWritableServerAtStartNothingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	must(t, c.Nodes[0].Kill())
	s := play(t, c, plan{keys: map[string]string{"failover_client_wait": "300ms"}})
	s.held("no server is writable")
	s.refused(s.logIn(), "57P03")
	s.quiet(1500 * time.Millisecond) // longer than three refused probes take
	must(t, c.Nodes[0].Start(within(t)))
	s.opened("n1")
	s.p.Connect()
	s.nothingRan()
}

func TestARecordedPrimaryThatIsDeadAtStartIsReplaced(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := play(t, c, plan{})
	s.opened("n1")
	s.p.Stop()
	must(t, c.Nodes[0].Kill())
	s.p.Restart()
	s.opened("n2")
	s.notify.WaitRuns(1)
	s.ran(one(c.Nodes[0], c.Nodes[1]), one(c.Nodes[0], c.Nodes[1]))
}

// strangers are two writable servers of different systems.
func strangers(t *testing.T) (c *pgtest.Cluster, other *pgtest.Node, servers []Server) {
	t.Helper()
	c = pgtest.New(t, pgtest.Options{})
	o := pgtest.New(t, pgtest.Options{OwnSystem: true})
	other = o.Nodes[0]
	return c, other, append(nodes(c), Server{Name: "other", Host: other.Host, Port: other.Port})
}

func TestAWritableServerOfAnotherSystemIsJudgedByStartupValidation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		validation, hinted, primary, rest, log string
	}{
		{"try", "n1", "n1", "Not init", "the server has another system identifier than the primary"},
		{"try", "other", "other", "Not init", "the server has another system identifier than the primary"},
		{"off", "other", "other", "Not init", ""},
		{"on", "n1", "n1", "Failed", "startup_validation is on"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s with a hint for %s", tt.validation, tt.hinted), func(t *testing.T) {
			t.Parallel()
			c, _, servers := strangers(t)
			for i := range servers {
				if servers[i].Name == tt.hinted {
					servers[i].More = map[string]string{"primary": "on"}
				}
			}
			s := play(t, c, plan{servers: servers, keys: map[string]string{"startup_validation": tt.validation}})
			s.opened(tt.primary)
			if tt.log != "" {
				s.p.WaitLog(tt.log)
			}
			for _, x := range servers {
				want := tt.rest
				if x.Name == tt.primary {
					want = "Primary"
				}
				s.p.WaitState(x.Name, want)
			}
			s.p.Connect()
			s.nothingRan()
		})
	}
}

func TestAStandbyOfAnotherSystemIsPromotedOnlyAfterThoseOfThePrimarysOwn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	other := pgtest.New(t, pgtest.Options{OwnSystem: true, Standbys: 1}).Nodes[1]
	servers := []Server{nodes(c)[0], {Name: "other", Host: other.Host, Port: other.Port}, nodes(c)[1]}
	s := play(t, c, plan{servers: servers})
	s.opened("n1")
	s.p.Connect()
	must(t, c.Nodes[0].Kill())
	s.opened("n2")
	s.notify.WaitRuns(1)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s.ran(one(n1, n2), one(n1, n2, other))
}
