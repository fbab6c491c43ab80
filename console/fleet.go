package console

import (
	"strings"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// states are the states of a server, in the words of its status, with those of C pgagroal's
// metrics.
var states = []struct{ status, label string }{
	{"Not init", "not_init"},
	{"Not init (primary)", "not_init"},
	{"Primary", "primary"},
	{"Replica", "replica"},
	{"Failover", "failover"},
	{"Failed", "failed"},
}

// qualifiers are what may be wrong with a server.
var qualifiers = []string{"not writable", "detached", "split brain", "vetoed"}

func stateLabel(status string) string {
	for _, s := range states {
		if s.status == status {
			return s.label
		}
	}
	return strings.ToLower(status)
}

// server sends what is known of one server.
func (c *collector) server(s *ipc.SnapshotServer) {
	health := map[string]float64{"DOWN": 0, "UP": 1}
	v, known := health[s.Health]
	if !known {
		v = 2
	}
	c.add("server_health", v, s.Name, s.Auth)
	c.add("server_version", float64(s.Major), s.Name)
	streaming := float64(max(s.Receiver, 0))
	if s.State == "Primary" {
		streaming = -1
	}
	c.add("server_streaming", streaming, s.Name)
	for _, label := range []string{"not_init", "primary", "replica", "failover", "failed"} {
		c.flag("server_state", label == stateLabel(s.State), s.Name, label)
	}
	for _, q := range qualifiers {
		c.flag("server_qualifier", q == s.Qualifier, s.Name, strings.ReplaceAll(q, " ", "_"))
	}
	c.replication(s)
	c.add("server_probe_failures", float64(s.Failures), s.Name)
	if s.SeenMS >= 0 {
		c.add("server_probe_age_seconds", float64(s.SeenMS)/1e3, s.Name)
	}
	for outcome, n := range s.Probes {
		c.add("server_probes_total", float64(n), s.Name, outcome)
	}
	c.add("server_probe_seconds_total", float64(s.ProbeUS)/1e6, s.Name)
}

// replication leaves out what is unknown: a lag of 0 would be good news.
func (c *collector) replication(s *ipc.SnapshotServer) {
	if s.Lag >= 0 {
		c.add("server_lag_bytes", float64(s.Lag), s.Name)
	}
	if s.LagMS >= 0 {
		c.add("server_lag_seconds", float64(s.LagMS)/1e3, s.Name)
	}
	if s.Receiver >= 0 {
		c.add("server_receiver_streaming", float64(s.Receiver), s.Name)
	}
	if s.Timeline > 0 {
		c.add("server_timeline", float64(s.Timeline), s.Name)
	}
	if s.LSN > 0 {
		c.add("server_wal_position_bytes", float64(s.LSN), s.Name)
	}
}

// times sends the times of what workers did with one server.
func (c *collector) times(t *ipc.ServerTimes) {
	name := c.snap.serverName(t.Server)
	if name == "" {
		return // a worker makes it up
	}
	state := ""
	for _, s := range c.snap.servers {
		if s.Index == t.Server {
			state = stateLabel(s.State)
		}
	}
	c.add("server_error", float64(t.Errors), name, state)
	c.add("backend_errors_total", float64(t.Errors), name)
	c.histogram("wait_seconds", timeBounds, t.Waits, name)
	c.histogram("query_seconds", timeBounds, t.Queries, name)
	c.histogram("transaction_seconds", timeBounds, t.Transactions, name)
	c.histogram("backend_login_seconds", timeBounds, t.Opens, name)
}

// failover sends the state of the machine that decides, and of what it needs.
func (c *collector) failover() {
	f := &c.snap.begin.Failover
	failed := 0
	for _, s := range c.snap.servers {
		if s.State == "Failed" {
			failed++
		}
	}
	c.add("failed_servers", float64(failed))
	c.flag("failover_enabled", f.Enabled)
	c.flag("failover_paused", f.Paused)
	for _, phase := range f.Phases {
		c.flag("failover_phase", phase == f.Phase, phase)
		c.add("failover_phase_seconds_total", float64(f.PhaseMS[phase])/1e3, phase)
	}
	for _, phase := range f.Phases {
		if ms, ok := f.LastMS[phase]; ok {
			c.add("failover_last_seconds", float64(ms)/1e3, phase)
		}
	}
	c.add("failover_epoch", float64(f.Epoch))
	c.add("failover_timeline", float64(f.Timeline))
	c.add("failover_held_seconds", float64(f.HeldMS)/1e3)
	for _, r := range f.Runs {
		c.add("failover_runs_total", float64(r.N), r.Hook, r.Outcome)
	}
	c.add("failover_last_success_timestamp_seconds", float64(f.Last))
	c.add("failover_fenced_sessions_total", float64(f.Fenced))
	for _, name := range f.Alarms {
		c.add("alarm", 1, name)
	}
	c.add("alarms", float64(len(f.Alarms)))
	c.add("failover_problems", float64(f.Problems))
	if f.RunnerWanted { // failover_mode = follow starts none
		c.flag("runner_connected", f.RunnerThere)
		c.flag("runner_agrees", f.RunnerAgrees)
	}
}

func (c *collector) processes() {
	for _, p := range c.snap.processes {
		c.add("process_cpu_seconds_total", p.CPU, p.Name)
		if p.Resident > 0 { // /proc may hide it
			c.add("process_resident_memory_bytes", float64(p.Resident), p.Name)
		}
		if index, ok := strings.CutPrefix(p.Name, "worker "); ok && p.AnswerUS >= 0 {
			c.add("worker_answer_seconds", float64(p.AnswerUS)/1e6, index)
		}
	}
}
