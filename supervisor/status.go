package supervisor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func (s *supervisor) pingResponse() control.PingResponse {
	st := s.servers.machine.Status(s.env.now())
	why := s.notWritable(st)
	r := control.PingResponse{Writable: why == "", Reason: why, Servers: map[string]control.PingServer{}}
	for i, sv := range st.Each() {
		_, running, primary := seen(sv)
		r.Servers[sv.Name] = control.PingServer{
			Host: sv.Host, Port: s.cfg.Slot(i).Port, Status: running, Primary: primary, Behind: behind(st, i),
		}
	}
	return r
}

// notWritable returns why a client that connects now could not write, "" if it could.
func (s *supervisor) notWritable(st failover.Status) string {
	switch {
	case s.stop.mode != stopNot:
		return "pgagroal is shutting down"
	case st.Primary < 0:
		return "there is no primary: " + st.Reason
	case st.Held || !st.Open:
		return "clients are held, phase " + st.Phase + ": " + st.Reason
	case s.clients.pauses[""] != nil:
		return s.clients.pauses.text()
	}
	primary := st.Servers[st.Primary]
	_, running, _ := seen(primary)
	switch {
	case primary.State != failover.Primary || running != control.ServerRunning:
		return fmt.Sprintf("%s, the primary, is not reachable: %s", primary.Name, st.Reason)
	case primary.Qualifier == failover.NotWritable || primary.Qualifier == failover.SplitBrain:
		return fmt.Sprintf("%s, the primary, is %s: %s", primary.Name, primary.Qualifier, primary.Reason)
	}
	return ""
}

// seen describes the last look at a server in the words of pgagroal-cli.
func seen(sv failover.ServerStatus) (health, running, primary string) {
	health, running, primary = control.HealthUnknown, control.ServerDown, control.PrimaryUnknown
	word, _, _ := strings.Cut(sv.Seen, " ") // "primary (login)"
	switch word {
	case failover.SawPrimary.String():
		primary = control.PrimaryYes
	case failover.SawStandby.String():
		primary = control.PrimaryNo
	case failover.SawAlive.String(), failover.SawStarting.String():
	case "":
		// Never probed, but a login has proven that it is the primary.
		if sv.State == failover.Primary {
			return control.HealthUp, control.ServerRunning, control.PrimaryYes
		}
		return health, running, primary
	default:
		return control.HealthDown, control.ServerDown, control.PrimaryUnknown
	}
	return control.HealthUp, control.ServerRunning, primary
}

// behind returns how many bytes a standby is behind the last position seen on the
// primary, nil if that is unknown.
func behind(st failover.Status, i int) *int64 {
	sv := st.Servers[i]
	if i == st.Primary || sv.LSN == 0 || st.LSN == 0 || sv.Foreign {
		return nil
	}
	lag := int64(0)
	if st.LSN > sv.LSN {
		lag = int64(st.LSN - sv.LSN)
	}
	return &lag
}

func (s *supervisor) statusResponse(rep *report) control.StatusResponse {
	st := s.servers.machine.Status(s.env.now())
	r := control.StatusResponse{
		Status: control.StatusRunning, MaxConnections: s.cfg.MaxConnections, NumberOfServers: len(s.cfg.Servers),
		Started: s.service.upgrade.process(),
		Servers: map[string]control.Server{}, Standbys: map[string]control.Standby{}, Failover: s.summary(st),
		Confinement: s.confinement(),
	}
	if s.stop.mode != stopNot {
		r.Status, r.Shutdown = control.StatusGraceful, s.shutdownResponse()
	}
	for _, w := range rep.workers {
		r.ActiveConnections += int(w.Gauges["active_connections"])
		r.TotalConnections += int(w.Gauges["total_connections"])
	}
	r.Upgrade = s.upgraded()
	for i, sv := range st.Each() {
		if sv.Qualifier == failover.SplitBrain {
			r.SplitBrain = control.SplitBrainYes
		}
		r.Servers[sv.Name] = s.serverStatus(st, i)
		if sv.State == failover.Replica {
			r.Standbys[sv.Name] = standby(sv.Standby)
		}
	}
	return r
}

// standby returns the zero value for a server that can't be read.
func standby(v *failover.StandbyView) control.Standby {
	if v == nil {
		return control.Standby{}
	}
	return control.Standby{
		Readable: true, Streaming: v.Streaming, WALReceiverStatus: v.Status, SlotName: v.SlotName,
		PrimaryHost: v.SenderHost, PrimaryPort: v.SenderPort,
	}
}

func (s *supervisor) serverStatus(st failover.Status, i int) control.Server {
	sv := st.Servers[i]
	health, running, primary := seen(sv)
	return control.Server{
		Server: sv.Name, Host: sv.Host, Port: s.cfg.Slot(i).Port, State: sv.State.String(), Health: health,
		MajorVersion: majorVersion(s.servers.versions[i]), SystemIdentifier: identifier(sv.SystemID),
		Status: running, Primary: primary, Behind: behind(st, i), LagSeconds: s.lagSeconds(st, i), Qualifier: sv.Qualifier.String(), Reason: sv.Reason,
	}
}

// lagSeconds returns for how long a standby had lacked something at its last probe, nil if that is unknown.
func (s *supervisor) lagSeconds(st failover.Status, i int) *float64 {
	lag := s.console.figures.lag(i)
	if lag < 0 || behind(st, i) == nil {
		return nil
	}
	return new(lag.Seconds())
}

// majorVersion reads "15.4", "16beta1" and the like, and returns 0 for anything else.
func majorVersion(text string) int {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		text = text[:end]
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

func identifier(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 10)
}

func (s *supervisor) summary(st failover.Status) control.FailoverSummary {
	r := control.FailoverSummary{
		Enabled: st.Enabled, Paused: st.Paused, Phase: st.Phase, Reason: st.Reason, Epoch: st.Epoch, Timeline: st.Timeline, Held: st.Held, Alarms: []string{},
	}
	if st.Held {
		r.HeldReason = st.Reason
	}
	if s.dir.Damage != "" {
		r.Alarms = append(r.Alarms, s.dir.Damage+" (this alarm ends at the next start)")
	}
	for _, a := range st.Alarms {
		r.Alarms = append(r.Alarms, a.Text)
	}
	return r
}

// traffic is the sum over all workers.
func traffic(rep *report) control.Traffic {
	var sum ipc.Traffic
	var r control.Traffic
	for _, w := range rep.workers {
		sum.Add(w.Traffic)
		r.Clients += int(w.Gauges["client_active"])
		r.Waiting += int(w.Gauges["connection_awaiting"])
	}
	r.Queries, r.QuerySeconds = counted(sum.Queries)
	r.Transactions, r.TransactionSeconds = counted(sum.Transactions)
	r.Waits, r.WaitSeconds = counted(sum.Waits)
	return r
}

func counted(t ipc.Tally) (n uint64, seconds float64) { return t.N, float64(t.Sum) / 1e9 }

// sessionStates translates the states of a worker's report to the words of pgagroal-cli.
var sessionStates = map[string]string{
	"not_init": "Not initialized", "init": "Initializing", "free": "Free", "in_use": "Active", "gracefully": "Graceful",
	"flush": "Flush", "validation": "Validating", "waiting": "Not initialized",
}

func (s *supervisor) detailsResponse(rep *report) control.StatusDetailsResponse {
	r := control.StatusDetailsResponse{
		StatusResponse: s.statusResponse(rep), Traffic: traffic(rep), Limits: []control.Limit{},
		Databases: s.clients.disabled.list(), Connections: []control.Connection{},
	}
	rules := s.ledger.Counts().Rules
	for i, l := range s.cfg.Limits {
		limit := control.Limit{
			Database: l.Database.String(), Username: l.User.String(), MaxConnections: l.MaxSize,
			InitialConnections: l.InitialSize, MinConnections: l.MinSize,
		}
		if i < len(rules) {
			limit.ActiveConnections = rules[i].Used
		}
		r.Limits = append(r.Limits, limit)
	}
	for _, c := range rep.sessions {
		state, ok := sessionStates[c.State]
		if !ok {
			state = c.State
		}
		r.Connections = append(r.Connections, control.Connection{
			State: state, StartTime: c.Start, Timestamp: c.Since, PID: c.worker, FD: c.FD,
			Database: c.Database, Username: c.User, AppName: c.AppName, Server: s.serverName(c.Server), Client: c.Client, ID: c.ClientID,
		})
	}
	return r
}

func (s *supervisor) failoverStatus() control.FailoverStatusResponse {
	st := s.servers.machine.Status(s.env.now())
	r := control.FailoverStatusResponse{
		FailoverSummary: s.summary(st), Mode: s.cfg.FailoverMode, LastLSN: lsn(st.LSN), LastLSNAge: -1,
		Runs: s.history.runs, StateDir: s.dir.Path, StateDirWritable: s.dir.Usable && s.saver.failed == nil,
		Runner: s.runnerStatus(), Run: s.runStatus(),
	}
	switch err := s.saver.failed; {
	case !s.dir.Usable:
		r.StateDirError = errNoStateDir.Error()
	case err != nil:
		r.StateDirError = err.Error()
	}
	if st.Primary >= 0 {
		r.Primary = st.Servers[st.Primary].Name
	}
	if st.LSN != 0 {
		r.LastLSNAge = seconds(st.LSNAge)
	}
	for i, sv := range st.Each() {
		c := s.cfg.Slot(i)
		f := control.FailoverServer{
			Server: sv.Name, Host: sv.Host, Port: c.Port, State: sv.State.String(), Qualifier: sv.Qualifier.String(),
			Reason: sv.Reason, EndedBy: sv.Command, Candidate: c.FailoverCandidate, Priority: c.FailoverPriority,
			Probe: sv.Seen, ProbeAge: -1, Failures: sv.Failures, Timeline: sv.Timeline, LSN: lsn(sv.LSN), SystemIdentifier: identifier(sv.SystemID),
		}
		if sv.Seen != "" {
			f.ProbeAge = seconds(sv.SeenAge)
		}
		r.Servers = append(r.Servers, f)
	}
	return r
}

// seconds rounds to milliseconds, for people to read.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

func lsn(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%X/%X", n>>32, uint32(n))
}

func (s *supervisor) runnerStatus() control.Runner {
	r := control.Runner{Socket: s.cfg.ScriptrunnerSocket, Error: s.runner.down}
	if e := s.runner.end; e != nil && !e.gone {
		r.Connected, r.PID, r.DigestMatch, r.Problems = e.started != nil, e.pid, e.agrees, e.problems
	}
	return r
}

func (s *supervisor) runStatus() *control.FailoverRun {
	x := s.runner.current
	if x == nil {
		return nil
	}
	elapsed := s.env.now() - x.born
	return &control.FailoverRun{
		RunID: x.id, Hook: x.hook, Args: x.args, Started: s.env.wall().Add(-elapsed).Format(time.RFC3339),
		Elapsed: seconds(elapsed), Timeout: seconds(x.timeout), PGID: x.pgid,
	}
}
