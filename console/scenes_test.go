//go:build browser

package console

import (
	"math"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// scene is a moment of a failover, with three servers.
type scene struct {
	document control.ConsoleResponse
	snap     *snapshot
	history  []string
}

// sceneStart is when the scenes' failover begins.
var sceneStart = time.Now().Add(-12 * time.Second)

const oldHistory = `{"time":"2026-11-30T02:14:09Z","kind":"verified","epoch":1,"reason":"start","result":"the only writable server","new":"n1","timeline":1}`

const newHistory = `{"time":"2026-11-30T12:00:03Z","kind":"failover","epoch":2,"reason":"3 probes in a row: refused","result":"exit code 0","old":"n1","new":"n2","timeline":2,` +
	`"lsn":"0/5000148","exit":0,"durations":{"choosing":"707ms","fencing":"11ms","running":"1.4s","suspect":"703ms"},` +
	`"candidates":[{"name":"n2","timeline":1,"lsn":"0/5000148","verdict":"chosen"},{"name":"n3","timeline":1,"lsn":"0/5000110","verdict":"eligible"}]}`

func lag(n int64) *int64 { return &n }

// calm is a fleet in which all is well.
func calm() *scene {
	server := func(name, host, state, primary string, behind *int64, reason string) control.Server {
		return control.Server{
			Server: name, Host: host, Port: 5432, State: state, Health: control.HealthUp, MajorVersion: 15, Status: control.ServerRunning,
			Primary: primary, Behind: behind, Reason: reason,
		}
	}
	follower := control.Standby{Readable: true, Streaming: true, WALReceiverStatus: "streaming", PrimaryHost: "10.0.0.11", PrimaryPort: "5432"}
	look := func(name, host, state, probe, lsn, reason string) control.FailoverServer {
		return control.FailoverServer{
			Server: name, Host: host, Port: 5432, State: state, Candidate: true, Probe: probe, ProbeAge: 0.4, Timeline: 1, LSN: lsn, Reason: reason,
		}
	}
	s := &scene{history: []string{oldHistory}}
	s.document = control.ConsoleResponse{
		Status: control.StatusRunning, Writable: true, MaxConnections: 100, NumberOfServers: 3,
		Servers: map[string]control.Server{
			"n1": server("n1", "10.0.0.11", "Primary", control.PrimaryYes, nil, "writable"),
			"n2": server("n2", "10.0.0.12", "Replica", control.PrimaryNo, lag(0), ""),
			"n3": server("n3", "10.0.0.13", "Replica", control.PrimaryNo, lag(81920), ""),
		},
		Standbys: map[string]control.Standby{"n2": follower, "n3": follower},
		FailoverStatus: control.FailoverStatusResponse{
			FailoverSummary: control.FailoverSummary{Enabled: true, Phase: "open", Epoch: 1, Timeline: 1, Alarms: []string{}},
			Mode:            "script", Primary: "n1", LastLSN: "0/5000148", LastLSNAge: 0.4, Runner: control.Runner{Connected: true, DigestMatch: true},
			StateDir: "/var/lib/pgagroal", StateDirWritable: true,
			Servers: []control.FailoverServer{
				look("n1", "10.0.0.11", "Primary", "primary", "0/5000148", "writable"),
				look("n2", "10.0.0.12", "Replica", "standby", "0/5000148", ""),
				look("n3", "10.0.0.13", "Replica", "standby", "0/4FEC148", ""),
			},
		},
	}
	s.snap = &snapshot{
		begin: &ipc.SnapshotBegin{
			Leases: ipc.LeaseFacts{Used: 24},
			Failover: ipc.FailoverFacts{Phases: []string{"open"}, Changes: []ipc.PhaseChange{
				{WallMS: sceneStart.Add(-6 * time.Hour).UnixMilli(), Phase: "starting", Reason: "start"},
				{WallMS: sceneStart.Add(-6*time.Hour + 340*time.Millisecond).UnixMilli(), Phase: "open", Reason: "the only writable server"},
			}},
		},
		servers: []*ipc.SnapshotServer{
			{Index: 0, Name: "n1", LagMS: -1, SeenMS: 400, Timeline: 1},
			{Index: 1, Name: "n2", LagMS: 0, SeenMS: 400, Timeline: 1},
			{Index: 2, Name: "n3", LagMS: 700, SeenMS: 400, Timeline: 1},
		},
		limits: []*ipc.SnapshotLimit{{User: "app", Database: "shop", Min: 2, Initial: 4, Max: 40, Used: 14}},
		processes: []*ipc.SnapshotProcess{
			{Name: "supervisor", CPU: 14.2, Resident: 22 << 20, AnswerUS: -1},
			{Name: "worker 0", CPU: 190.5, Resident: 31 << 20, AnswerUS: 240},
			{Name: "worker 1", CPU: 188.1, Resident: 30 << 20, AnswerUS: 310},
			{Name: "prober", CPU: 2.1, Resident: 15 << 20, AnswerUS: -1},
		},
		workers: map[int]*ipc.WorkerStats{0: {
			Counters: map[string]uint64{},
			Gauges:   map[string]int64{"client_active": 61, "active_connections": 18, "total_connections": 24, "connection_awaiting": 0},
			Pools: []ipc.PoolFigures{
				{Database: "shop", User: "app", Server: 0, Active: 12, Idle: 2},
				{Database: "shop", User: "reports", Server: 0, Active: 3, Idle: 1},
				{Database: "billing", User: "app", Server: 0, Active: 3, Idle: 3},
			},
		}},
	}
	return s
}

// phase puts the scene into a phase that began some time ago.
func (s *scene) phase(name, reason string, before ...string) *scene {
	f := &s.document.FailoverStatus
	f.Phase, f.Reason = name, reason
	at := sceneStart
	for _, p := range append(before, name) {
		s.snap.begin.Failover.Changes = append(s.snap.begin.Failover.Changes, ipc.PhaseChange{WallMS: at.UnixMilli(), Phase: p, Reason: reason})
		at = at.Add(1100 * time.Millisecond)
	}
	if name != "open" && name != "suspect" {
		s.document.Writable, s.document.Reason = false, "clients are held, phase "+name+": "+reason
		f.Held, f.HeldReason = true, reason
		s.snap.begin.Failover.Held, s.snap.begin.Failover.HeldMS = true, 9400
		g := s.snap.workers[0].Gauges
		g["active_connections"], g["connection_awaiting"], g["total_connections"] = 0, 27, 3
	}
	return s
}

// server changes what is known of a server.
func (s *scene) server(i int, state, qualifier, probe, reason string, failures int) *scene {
	f := &s.document.FailoverStatus.Servers[i]
	f.State, f.Qualifier, f.Probe, f.Reason, f.Failures = state, qualifier, probe, reason, failures
	sv := s.document.Servers[f.Server]
	sv.State, sv.Qualifier, sv.Reason = state, qualifier, reason
	if failures > 0 {
		sv.Status, sv.Health, sv.Primary = control.ServerDown, control.HealthDown, control.PrimaryUnknown
	}
	if state != "Replica" {
		delete(s.document.Standbys, f.Server)
		sv.Behind = nil
	}
	s.document.Servers[f.Server] = sv
	return s
}

func (s *scene) alarm(text string) *scene {
	s.document.FailoverStatus.Alarms = append(s.document.FailoverStatus.Alarms, text)
	return s
}

// detached has no standby stream any more.
func (s *scene) detached() *scene {
	for name, v := range s.document.Standbys {
		v.Streaming, v.WALReceiverStatus = false, ""
		s.document.Standbys[name] = v
	}
	return s
}

// scenes are the moments that doc/console has pictures of.
func scenes() map[string]*scene {
	run := calm().detached().server(0, "Failover", "", "refused", "3 probes in a row: refused", 3).
		phase("running", "run 18ecdd41ad340d08-1-1 promotes n2", "suspect", "fencing", "choosing")
	run.document.FailoverStatus.Run = &control.FailoverRun{RunID: "1", Hook: "failover", Elapsed: 1.3, Timeout: 120}
	split := calm().server(0, "Failed", "split brain", "primary", "it is back as a primary on timeline 1", 0).
		server(1, "Primary", "", "primary", "writable", 0).
		alarm("n1 is a primary, too, on an older timeline: stop it and rebuild it as a standby; then pgagroal-cli clear server n1")
	split.history = append(split.history, newHistory)
	split.document.SplitBrain = control.SplitBrainYes
	f := &split.document.FailoverStatus
	f.Primary, f.Epoch, f.Timeline, f.Runs = "n2", 2, 2, 1
	f.Servers[0].EndedBy = "pgagroal-cli clear server n1"
	f.Servers[1].Timeline, f.Servers[2].Timeline = 2, 2
	n3 := split.document.Standbys["n3"]
	n3.PrimaryHost = "10.0.0.12"
	split.document.Standbys["n3"] = n3
	held := calm().detached().server(0, "Failed", "", "timeout", "replaced by n2", 9).
		phase("held", "exit code 1; n2 isn't promoted", "suspect", "fencing", "choosing", "running").
		alarm("clients are held: promote a server by hand, then pgagroal-cli switch-to SERVER or failover reset")
	held.document.FailoverStatus.Primary, held.document.FailoverStatus.Runs = "", 1
	held.history = append(held.history, `{"time":"2026-11-30T12:00:04Z","kind":"failover","epoch":1,"reason":"3 probes in a row: timeout","result":"exit code 1","old":"n1","new":"n2","exit":1}`)
	return map[string]*scene{
		"calm": calm(),
		"suspect": calm().detached().server(0, "Primary", "", "refused", "2 of 3 probes failed: refused", 2).
			phase("suspect", "2 of 3 probes failed: refused"),
		"after": calm().server(2, "Replica", "detached", "standby", "in recovery, but not streaming on timeline 2", 0),
		"run":   run, "split-brain": split, "held": held,
	}
}

// load makes samples of ten minutes that look like those of a shop; with a hole at the end if
// clients are held.
func (s *scene) load() []sample {
	var all []sample
	f := func(v float64) *float64 { return &v }
	for i := range 590 {
		x := float64(i)
		wave := 900 + 250*math.Sin(x/70) + 60*math.Sin(x/5) + 25*math.Sin(x*1.7)
		one := sample{
			Time: float64(sceneStart.Add(12*time.Second-time.Duration(592-i)*time.Second).UnixMilli()) / 1e3, Queries: wave, Transactions: wave / 4.2,
			Sent: wave * 190, Received: wave * 1400, QueryP50: f(0.0007 + 0.0002*math.Sin(x/40)), QueryP99: f(0.006 + 0.003*math.Sin(x/23) + 0.001*math.Sin(x)),
			WaitP50: f(0.00002), WaitP99: f(0.002 + 0.001*math.Sin(x/31)), Clients: 61, Active: int64(18 + 5*math.Sin(x/9)), Total: 24,
		}
		if s.document.FailoverStatus.Held && i > 578 {
			one = sample{Time: one.Time, Clients: 61, Waiting: int64(2 * (i - 577)), Total: 3}
		}
		all = append(all, one)
	}
	return all
}
