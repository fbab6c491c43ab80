package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// fault is one row of the matrix.
type fault struct {
	name, how string
	plan      plan
	begin     func(*scene)
	end       func(*scene)  // takes it back; nil when there is nothing to take back
	lasts     time.Duration // zero: until the script ran, or for as long as hold says; less: begin waits itself
	run       bool          // whether the script must run
	reason    string        // what the history must give as the reason of the run
	probe     string        // what a probe of n1 must see meanwhile, for a fault without a run
	state     string        // and what status must show of n1
	split     bool          // n1 is writable when it is seen again
	within    time.Duration // after which the script must have started, zero for no promise
	check     func(*scene)  // in place of what run asks for: returns when it is over
	decision  string        // what the table says then
}

// momentary is a fault whose begin returns when it is over.
const momentary = -1

// faults are all rows, in the order of the table.
func faults() []fault {
	return slices.Concat(deaths(), cuts(), usual(), modes(), partial(), lively())
}

// deaths are faults of the primary itself.
func deaths() []fault {
	return []fault{
		{
			name: "host dies", how: "SIGKILL to all processes at once", run: true, reason: "refused",
			begin: func(s *scene) { pool.Must(s.t, s.node(1).Kill()) },
		},
		{
			name: "server process dies", how: "SIGKILL to the postmaster alone", run: true, reason: "refused",
			begin: func(s *scene) { pool.Must(s.t, s.node(1).KillPostmasterOnly()) },
		},
		{
			name: "host frozen", how: "SIGSTOP to all processes: connections are taken, nothing is answered", run: true, reason: "standbys don't receive", split: true,
			begin: func(s *scene) { pool.Must(s.t, s.node(1).Pause()) },
			end:   func(s *scene) { pool.Must(s.t, s.node(1).Resume()) },
		},
		{
			name: "orderly stop", how: "pg_ctl stop -m fast", run: true, reason: "refused",
			begin: func(s *scene) { s.pgctl("stop", "-m", "fast") },
		},
	}
}

// cuts are faults of the network around the primary's host.
func cuts() []fault {
	heal := func(s *scene) { s.net.heal() }
	return []fault{
		{
			name: "connections reset", how: "a firewall answers everything from pgagroal with a reset", run: true, reason: "refused", split: true,
			begin: func(s *scene) { s.net.rule("n1", "ip saddr @pool tcp dport 5432 reject with tcp reset") }, end: heal,
		},
		{
			name: "host cut off", how: "all packets to and from it dropped", run: true, reason: "standbys don't receive", split: true,
			begin: func(s *scene) { s.around("n1") }, end: heal,
		},
		{
			name: "one way", how: "all packets from it dropped; those to it arrive", run: true, reason: "standbys don't receive", split: true,
			begin: func(s *scene) { s.from("n1") }, end: heal,
		},
		{
			name: "link down", how: "its network interface loses the carrier", run: true, reason: "standbys don't receive", split: true,
			begin: func(s *scene) { s.net.unplug("n1") }, end: heal,
		},
	}
}

// usual are silent primaries whose standbys have PostgreSQL's default wal_receiver_timeout. They need the default times.
func usual() []fault {
	if !unhurried() {
		return nil
	}
	minute := func(o *pgtest.Options) { o.Extra["wal_receiver_timeout"] = "60s" }
	var list []fault
	for _, idle := range []bool{false, true} {
		name, busy, within := "busy host cut off", "all packets dropped; `wal_receiver_timeout` is 60s", 20*time.Second
		if idle {
			name, busy, within = "idle host cut off", "the same, while nobody writes", 40*time.Second
		}
		list = append(list, fault{
			name: name, how: busy, run: true, reason: "standbys don't receive", split: true, within: within,
			plan:  plan{options: minute, idle: idle, calm: 17 * time.Second}, // three looks at the streams and more
			begin: func(s *scene) { s.around("n1") }, end: func(s *scene) { s.net.heal() },
		})
	}
	return list
}

// partial are faults that leave the primary at work for somebody.
func partial() []fault {
	heal := func(s *scene) { s.net.heal() }
	return []fault{
		{
			name: "pgagroal in the minority", how: "packets between pgagroal and the primary dropped; the standbys receive", probe: "timeout", state: "Primary (vetoed)",
			begin: func(s *scene) { s.net.part("pool", "n1") }, end: heal,
		},
		{
			name: "pgagroal isolated", how: "packets between pgagroal and every server dropped",
			begin: func(s *scene) { s.around("pool") }, end: heal, probe: "timeout",
		},
		{
			name: "postmaster frozen", how: "SIGSTOP to it alone: sessions work, logins hang", probe: "silent", state: "Primary (vetoed)",
			plan:  plan{keys: quickly(map[string]string{"failover_veto_max": "60s"})},
			begin: func(s *scene) { pool.Must(s.t, s.node(1).PausePostmaster()) },
			end:   func(s *scene) { pool.Must(s.t, s.node(1).Resume()) },
		},
		{
			name: "postmaster frozen for long", how: "the same, beyond failover_veto_max (60s)", run: true, reason: "still serves its connections", split: true,
			plan:  plan{keys: quickly(map[string]string{"failover_veto_max": "3s"})},
			begin: func(s *scene) { pool.Must(s.t, s.node(1).PausePostmaster()) },
			end:   func(s *scene) { pool.Must(s.t, s.node(1).Resume()) },
		},
		{
			name: "half-open connections", how: "the server is killed and started behind a firewall that drops; nobody is told", lasts: momentary,
			begin: halfOpen, end: heal,
		},
	}
}

// lively are states of a primary that lives.
func lively() []fault {
	return []fault{
		{
			name: "connections used up", how: "53300 for every login", probe: "alive (53300)",
			plan:  narrow(),
			begin: func(s *scene) { s.free = fill(s) }, end: func(s *scene) { s.free() },
		},
		{
			name: "login refused", how: "pg_hba.conf rejects pgagroal's host: 28000 for every login", probe: "alive (28000)",
			begin: reject,
		},
		{
			name: "crash recovery", how: "SIGKILL to a backend, and recovery that takes its time: 57P03", lasts: momentary,
			begin: crash,
		},
		{
			name: "restart", how: "pg_ctl restart -m fast", lasts: momentary,
			begin: func(s *scene) { s.pgctl("restart", "-m", "fast", "-l", s.node(1).LogFile) },
		},
	}
}

// pgctl runs pg_ctl for n1 where it lives.
func (s *scene) pgctl(args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	pool.Must(s.t, s.node(1).Tool(ctx, "pg_ctl", append(args, "-w", "-s", "-D", s.node(1).DataDir)...))
}

// from drops what a host sends to any other.
func (s *scene) from(name string) {
	s.t.Helper()
	for other := range s.net.hosts {
		if other != name {
			s.net.lose(name, other)
		}
	}
}

// around drops what a host sends and what is sent to it.
func (s *scene) around(name string) {
	s.t.Helper()
	s.from(name)
	for other := range s.net.hosts {
		if other != name {
			s.net.lose(other, name)
		}
	}
}

// halfOpen restarts n1 while it can't be heard or reached by pgagroal: what it
// knew of its connections is gone, and pgagroal wasn't told.
func halfOpen(s *scene) {
	s.net.part("pool", "n1")
	pool.Must(s.t, s.node(1).Kill())
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	pool.Must(s.t, s.node(1).Start(ctx))
}

// reject has the primary turn away whoever logs in from pgagroal's host.
func reject(s *scene) {
	file := filepath.Join(s.node(1).DataDir, "pg_hba.conf")
	old, err := os.ReadFile(file)
	pool.Must(s.t, err)
	pool.Must(s.t, os.WriteFile(file, []byte("host all all "+s.net.hosts["pool"].addr+"/32 reject\n"+string(old)), 0o600))
	s.sql(1, "SELECT pg_reload_conf()")
}

// crash kills a backend, which takes the server through crash recovery. Another one
// that is stopped keeps that from ending until PostgreSQL loses its patience with
// it, after five seconds.
func crash(s *scene) {
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	stopped, err := s.node(1).Dial(ctx)
	pool.Must(s.t, err)
	s.t.Cleanup(func() { _ = stopped.Close() })
	killed, err := s.node(1).Dial(ctx)
	pool.Must(s.t, err)
	s.t.Cleanup(func() { _ = killed.Close() })
	pool.Must(s.t, syscall.Kill(int(stopped.PID), syscall.SIGSTOP))
	pool.Must(s.t, syscall.Kill(int(killed.PID), syscall.SIGKILL))
	pgtest.WaitUntil(s.t, generous, "the crash", func() bool { _, err := s.node(1).Query(ctx, "SELECT 1"); return err != nil })
	s.calm(time.Second)
	pgtest.WaitUntil(s.t, generous, "the end of the recovery", func() bool { _, err := s.node(1).Query(ctx, "SELECT 1"); return err == nil })
}

// outcome is what one round of a fault has shown.
type outcome struct {
	seen         string // by the probes, or the reason of the run
	runs         int
	decided      time.Duration // from the fault to the start of the script
	pause        time.Duration // longest between two acknowledged rows
	lost         int
	disconnected int
	errors       string
}

func TestEachFaultGetsItsDecision(t *testing.T) {
	needNetworks(t)
	t.Parallel()
	results := &table{rows: map[string][]outcome{}}
	n := 1
	if *write {
		n = *rounds
	}
	t.Run("fault", func(t *testing.T) {
		for _, f := range faults() {
			for round := range n {
				t.Run(strings.ReplaceAll(f.name, " ", "_")+"/"+strconv.Itoa(round+1), func(t *testing.T) {
					t.Parallel()
					results.add(f.name, f.play(t))
				})
			}
		}
	})
	t.Log("\n" + results.text())
	if *write && !t.Failed() {
		pool.Must(t, publish("faults", results.text()))
	}
}

// play does one round of a fault and checks what must hold.
func (f *fault) play(t *testing.T) outcome {
	s := play(t, f.plan)
	start := time.Now()
	f.begin(s)
	out := outcome{}
	switch {
	case f.check != nil:
		f.check(s)
	case f.run:
		out.decided = s.ran().at.Sub(start)
		if f.within > 0 && out.decided > f.within {
			t.Errorf("the script started after %s, later than the promised %s", out.decided, f.within)
		}
		if s.load == nil {
			s.write()
		}
		f.replaced(s, &out)
	default:
		f.kept(s, &out)
	}
	s.load.End()
	told := s.load.Seen()
	out.pause, out.disconnected, out.errors = told.Pause, told.Disconnected, told.Errors
	out.runs = len(s.runs("failover.sh"))
	if out.lost = s.rows(s.primary(), told); out.lost > 0 {
		t.Errorf("%d of %d acknowledged rows are lost", out.lost, len(told.Acked))
	}
	if out.disconnected > 0 {
		t.Errorf("%d clients lost their connection:%s", out.disconnected, out.errors)
	}
	return out
}

// replaced checks a fault that the script must answer, once.
func (f *fault) replaced(s *scene, out *outcome) {
	s.t.Helper()
	s.served(50)
	pgtest.WaitUntil(s.t, generous, "the notify script", func() bool { return len(s.runs("notify.sh")) > 0 })
	h := s.history("failover")
	if len(h) != 1 {
		s.t.Fatalf("%d failovers in the history: %v", len(h), h)
	}
	out.seen = fmt.Sprint(h[0]["reason"])
	if !strings.Contains(out.seen, f.reason) {
		s.t.Errorf("the reason is %q, which doesn't say %q", out.seen, f.reason)
	}
	if f.end != nil {
		f.end(s)
	}
	if f.split {
		s.waitState("n1", "Failed (split brain)")
	}
	s.served(20)
	if p := s.primary(); p == 1 {
		s.t.Error("the pool is open on n1 again")
	}
	if n, m := len(s.runs("failover.sh")), len(s.runs("notify.sh")); n != 1 || m != 1 {
		s.t.Errorf("%d runs of the failover script and %d of the notify script, want one each", n, m)
	}
}

// kept checks a fault that must start nothing.
func (f *fault) kept(s *scene, out *outcome) {
	s.t.Helper()
	if f.probe != "" {
		s.probed("n1", f.probe)
	}
	if f.state != "" {
		s.waitState("n1", f.state)
	}
	if f.lasts == 0 {
		s.calm(hold())
	}
	out.seen = s.probe("n1")
	if f.end != nil {
		f.end(s)
	}
	s.same()
}

// probe is what the latest probe of a server saw.
func (s *scene) probe(name string) string {
	s.t.Helper()
	list, _ := s.status()["Servers"].([]any)
	for _, x := range list {
		if m, _ := x.(map[string]any); m["Server"] == name {
			return fmt.Sprint(m["Probe"])
		}
	}
	s.t.Fatalf("failover status has no server %s", name)
	return ""
}

// probed waits until the latest probe of a server has seen this.
func (s *scene) probed(name, want string) {
	s.t.Helper()
	pgtest.WaitUntil(s.t, generous, "a probe of "+name+" to see "+want, func() bool { return strings.HasPrefix(s.probe(name), want) },
		func() string { return s.probe(name) })
}

// waitState waits until status shows a server in a state, qualifier included.
func (s *scene) waitState(name, want string) {
	s.t.Helper()
	state := func() string {
		st := s.p.JSON("status")
		servers, _ := st["Servers"].(map[string]any)
		m, _ := servers[name].(map[string]any)
		if q, _ := m["Qualifier"].(string); q != "" {
			return fmt.Sprintf("%v (%s)", m["State"], q)
		}
		return fmt.Sprint(m["State"])
	}
	pgtest.WaitUntil(s.t, generous, name+" to be "+want, func() bool { return state() == want }, state)
}

// table collects outcomes by the name of the fault.
type table struct {
	mu   sync.Mutex
	rows map[string][]outcome
}

func (b *table) add(name string, o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[name] = append(b.rows[name], o)
}
