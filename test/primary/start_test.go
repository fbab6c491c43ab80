package primary

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// hint makes a server section say that it is the primary.
func hint(servers []pool.Server, i int) []pool.Server {
	servers[i-1].More = map[string]string{"primary": "on"}
	return servers
}

func TestTheWritableServerIsThePrimaryWhateverTheHintSays(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{Servers: hint(pool.Nodes(c), 2)})
	s.Opened("n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.Pool.WaitState("n1", "Primary")
	s.Pool.WaitState("n2", "Replica")
	s.NothingRan()
}

// forked makes n2 a primary of timeline 2 beside n1 on timeline 1.
func forked(t *testing.T, standbys int) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: standbys})
	pool.Must(t, c.Nodes[1].Promote(pool.Within(t)))
	return c
}

// behind returns a scene whose state file records n2 on timeline 2; n2 is dead,
// and n1, never used, is writable on timeline 1.
func behind(t *testing.T, keys map[string]string) *pool.Scene {
	t.Helper()
	c := forked(t, 1)
	pool.Must(t, c.Nodes[0].Kill())
	s := pool.Play(t, c, pool.Plan{Keys: keys})
	s.Opened("n2")
	s.Pool.Stop()
	pool.Must(t, c.Nodes[1].Kill())
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Pool.Restart()
	s.Held("n1 is writable on timeline 1, but the state file records n2 on timeline 2")
	return s
}

func TestAServerOfAnOlderTimelineThanRecordedGetsNoClientsUntilCleared(t *testing.T) {
	t.Parallel()
	s := behind(t, map[string]string{"failover_client_wait": "300ms"})
	s.Refused(s.LogIn(), "57P03")
	if out, errs, code := s.Pool.CLI("clear", "server", "n2"); code != 0 {
		t.Fatalf("clear server n2: exit %d\n%s%s", code, out, errs)
	}
	s.Opened("n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.NothingRan()
}

func TestLoginsHeldForANewerTimelineAreServedOnceItIsSeen(t *testing.T) {
	t.Parallel()
	s := behind(t, nil)
	waiting := s.LogIn()
	pool.Must(t, s.Node(2).Start(pool.Within(t)))
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Pool.WaitState("n1", "Failed (split brain)")
	s.NothingRan()
}

func TestOfTwoWritableServersTheRecordedPrimaryWins(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Stop()
	pool.Must(t, c.Nodes[1].Promote(pool.Within(t))) // a higher timeline, but nobody recorded it
	s.Pool.Restart()
	s.Opened("n1")
	s.Pool.WaitState("n2", "Failed (split brain)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	s.Alarmed("never used: n2")
	s.NothingRan()
}

func TestOfTwoWritableServersTheHigherTimelineWinsWithoutARecord(t *testing.T) {
	t.Parallel()
	c := forked(t, 1)
	s := pool.Play(t, c, pool.Plan{Servers: hint(pool.Nodes(c), 1)})
	s.Opened("n2")
	s.Pool.WaitState("n1", "Failed (split brain)")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n2" {
		t.Errorf("a client is on %s, want n2", got)
	}
	s.NothingRan()
}

func TestTwoWritableServersOfOneTimelineAreReportedAndGetNoClients(t *testing.T) {
	t.Parallel()
	c := forked(t, 2)
	pool.Must(t, c.Nodes[2].Promote(pool.Within(t)))
	pool.Must(t, c.Nodes[0].Kill())
	s := pool.Play(t, c, pool.Plan{Servers: pool.Nodes(c)[1:], Keys: map[string]string{"failover_client_wait": "300ms"}})
	s.Held("several servers are writable on the same timeline")
	for _, name := range []string{"n2", "n3"} {
		s.Pool.WaitState(name, "Failed (split brain)")
	}
	s.Alarmed("n2 n3")
	s.Refused(s.LogIn(), "57P03")
	if got := s.Pool.JSON("status")["SplitBrain"]; got != "Yes" {
		t.Errorf("status says SplitBrain %v, want Yes", got)
	}
	s.NothingRan()
}

// TestTwoNamesOfOneServerAreServedAsOne: the second name is neither a split brain nor promoted when both are dead.
func TestTwoNamesOfOneServerAreServedAsOne(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers := pool.Nodes(c)
	second := pool.Server{Name: "again", Host: c.Nodes[0].SocketDir, Port: c.Nodes[0].Port}
	s := pool.Play(t, c, pool.Plan{Servers: []pool.Server{servers[0], second, servers[1]}})
	s.Opened("n1")
	pool.Says(t, s.Server("again"), "State", "Not init")
	pool.Says(t, s.Server("again"), "Reason", "the same server as n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s, want n1", got)
	}
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Failover.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), s.Notify.Runs())
}

func TestWithoutAWritableServerAtStartNothingRuns(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 2})
	pool.Must(t, c.Nodes[0].Kill())
	s := pool.Play(t, c, pool.Plan{Keys: map[string]string{"failover_client_wait": "300ms"}})
	s.Held("no server is writable")
	s.Refused(s.LogIn(), "57P03")
	s.Quiet(1500 * time.Millisecond) // longer than three refused probes take
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Opened("n1")
	s.Pool.Connect()
	s.NothingRan()
}

// TestAStandbyWithAWrongPortIsAnAlarm: the pool is open, and the server that nobody has seen isn't forgotten.
func TestAStandbyWithAWrongPortIsAnAlarm(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers := pool.Nodes(c)
	wrong := servers[1].Port + 1
	servers[1].Host, servers[1].Port = c.Nodes[1].SocketDir, wrong // nobody else listens in this directory
	s := pool.Play(t, c, pool.Plan{Servers: servers})
	s.Opened("n1")
	s.Alarmed(fmt.Sprintf("n2 was never seen since the start: %s port %d refuses connections", servers[1].Host, wrong))
	s.Pool.WaitLog("n2 was never seen since the start")
	s.Pool.Connect()
	if s.HasAlarm("n1 was never seen") {
		t.Errorf("an alarm for n1, which is the primary: %v", s.Status()["Alarms"])
	}
	s.NothingRan()
}

// TestWhenAllServersAreDownAtStartEachAnswerIsTold: force is proposed only while a server answers, and last. The alarms
// end with the servers' first answers.
func TestWhenAllServersAreDownAtStartEachAnswerIsTold(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	for _, n := range c.Nodes {
		pool.Must(t, n.Kill())
	}
	s := pool.Play(t, c, pool.Plan{})
	at := func(n *pgtest.Node) string {
		return fmt.Sprintf("%s: %s port %d refuses connections", n.Name, n.Host, n.Port)
	}
	s.Held("no server is writable (" + at(c.Nodes[0]) + "; " + at(c.Nodes[1]) + ")")
	s.Alarmed("n1 was never seen since the start")
	s.Alarmed("n2 was never seen since the start")
	s.Pool.WaitLog("logins are held")
	if log := s.Pool.Log(); strings.Contains(log, "--force") {
		t.Errorf("force is proposed although no server answers:\n%s", log)
	}
	pool.Must(t, c.Nodes[1].Start(pool.Within(t)))
	s.Held("no server is writable (" + at(c.Nodes[0]) + "; n2: in recovery)")
	pgtest.WaitUntil(t, pool.Generous, "the alarm for n2 to end", func() bool { return !s.HasAlarm("n2 was never seen") }, s.Pool.Log)
	pool.Must(t, c.Nodes[0].Start(pool.Within(t)))
	s.Opened("n1")
	pgtest.WaitUntil(t, pool.Generous, "the alarm for n1 to end", func() bool { return !s.HasAlarm("n1 was never seen") }, s.Pool.Log)
	s.NothingRan()
}

func TestARecordedPrimaryThatIsDeadAtStartIsReplaced(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Play(t, c, pool.Plan{})
	s.Opened("n1")
	s.Pool.Stop()
	pool.Must(t, c.Nodes[0].Kill())
	s.Pool.Restart()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	s.Ran(pool.OneRun(c.Nodes[0], c.Nodes[1]), pool.OneRun(c.Nodes[0], c.Nodes[1]))
}

// strangers are two writable servers of different systems.
func strangers(t *testing.T) (c *pgtest.Cluster, other *pgtest.Node, servers []pool.Server) {
	t.Helper()
	c = pgtest.New(t, pgtest.Options{})
	o := pgtest.New(t, pgtest.Options{OwnSystem: true})
	other = o.Nodes[0]
	return c, other, append(pool.Nodes(c), pool.Server{Name: "other", Host: other.Host, Port: other.Port})
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
			s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: map[string]string{"startup_validation": tt.validation}})
			s.Opened(tt.primary)
			if tt.log != "" {
				s.Pool.WaitLog(tt.log)
			}
			for _, x := range servers {
				want := tt.rest
				if x.Name == tt.primary {
					want = "Primary"
				}
				s.Pool.WaitState(x.Name, want)
			}
			s.Pool.Connect()
			s.NothingRan()
		})
	}
}

func TestAStandbyOfAnotherSystemIsPromotedOnlyAfterThoseOfThePrimarysOwn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	other := pgtest.New(t, pgtest.Options{OwnSystem: true, Standbys: 1}).Nodes[1]
	servers := []pool.Server{pool.Nodes(c)[0], {Name: "other", Host: other.Host, Port: other.Port}, pool.Nodes(c)[1]}
	s := pool.Play(t, c, pool.Plan{Servers: servers})
	s.Opened("n1")
	s.Pool.Connect()
	pool.Must(t, c.Nodes[0].Kill())
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	n1, n2 := c.Nodes[0], c.Nodes[1]
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2, other))
}
