package supervisor

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeUsers is how many entries of the users file a probe tries at most.
const probeUsers = 3

// probe looks at a server. If its name has never resolved, probe waits for that;
// otherwise it uses the last good address while the name is looked up again. A probe that has
// waited for the record while a reload removed its server is dropped: the machine has forgotten it.
func (s *supervisor) probe(a failover.Probe) {
	if s.cfg.Slot(a.Server) == nil {
		return
	}
	w := s.servers.where[a.Server]
	if len(w.addresses) == 0 {
		s.resolve(a.Server, func() { s.probeNow(a) })
		return
	}
	if !w.literal && s.env.now()-w.at > resolveStale {
		s.resolve(a.Server, nil)
	}
	s.probeNow(a)
}

func (s *supervisor) probeNow(a failover.Probe) {
	now := s.env.now()
	x := &sweep{s: s, probe: a, started: now, addresses: s.addressesOf(a.Server), of: s.servers.where[a.Server]}
	if len(x.addresses) == 0 {
		s.feed(failover.ProbeDone{Server: a.Server, ID: a.ID, Outcome: failover.SawNoAddress, Started: now, Ended: now})
		return
	}
	x.begin()
}

// probeAt looks at one address of a server.
func (s *supervisor) probeAt(a failover.Probe, at address, timeout time.Duration, then func(failover.ProbeDone)) {
	t := s.targetAt(a.Server, at, timeout)
	var l *look
	l = lookAt(s, timeout, func(id uint64) ipc.Message { return &ipc.ProbeRequest{ID: id, Target: t} },
		func(m *ipc.ProbeDone, err error) {
			if err != nil && s.servers.prober.leaving {
				return // pgagroal ends, and took its prober away itself: nothing is wrong with the server
			}
			seen := failover.ProbeDone{Server: a.Server, ID: a.ID, Started: l.started, Ended: s.env.now()}
			if err != nil {
				m = &ipc.ProbeDone{Outcome: ipc.SawNothing, Code: err.Error()}
			}
			seen.Outcome, seen.Code, seen.Words = outcomes[m.Outcome], m.Code, m.Words
			if m.Outcome == ipc.SawPrimary || m.Outcome == ipc.SawStandby {
				seen.Obs, seen.Version = observation(&m.Obs), m.Version
			}
			then(seen)
		})
}

// outcomes translates the prober's outcomes to the machine's. A probe that has seen
// nothing has a code; a probe of a name that doesn't resolve has none.
var outcomes = [...]failover.Outcome{
	ipc.SawPrimary: failover.SawPrimary, ipc.SawStandby: failover.SawStandby, ipc.SawRefused: failover.SawRefused,
	ipc.SawTimeout: failover.SawTimeout, ipc.SawSilent: failover.SawSilent, ipc.SawUnreachable: failover.SawUnreachable,
	ipc.SawNothing: failover.SawNoAddress, ipc.SawAlive: failover.SawAlive, ipc.SawStarting: failover.SawStarting,
	ipc.SawShutdown: failover.SawShutdown,
}

// receivers translates the states of a WAL receiver.
var receivers = [...]failover.Receiver{
	ipc.ReceiverUnknown: failover.ReceiverUnknown, ipc.ReceiverGone: failover.ReceiverGone,
	ipc.ReceiverStreaming: failover.ReceiverStreaming,
}

func observation(o *ipc.Observation) failover.Observation {
	return failover.Observation{
		SystemID: o.SystemID, Timeline: o.Timeline, PostmasterStart: o.PostmasterStart, Checkpoint: o.Checkpoint,
		WriteLSN: o.WriteLSN, ReceiveLSN: o.ReceiveLSN, ReplayLSN: o.ReplayLSN, Paused: o.Paused,
		Receiver: receivers[o.Receiver], ReceiverWord: o.ReceiverWord, SlotName: o.SlotName,
		SenderHost: o.SenderHost, SenderPort: o.SenderPort,
		LastMsgAge: o.LastMsgAge, LastMsgKnown: o.LastMsgKnown, ReceiverTimeout: o.ReceiverTimeout,
		SyncStandbys: o.SyncStandbys, SyncWaiting: o.SyncWaiting,
	}
}

// targetAt returns how to reach an address of a server within timeout.
func (s *supervisor) targetAt(server int, a address, timeout time.Duration) ipc.Target {
	return ipc.Target{
		Server: server, Network: a.network, Address: a.address, TimeoutMS: max(timeout.Milliseconds(), 1), Logins: s.probeLogins(server),
		Methods: s.cfg.Slot(server).AuthMethods(),
	}
}

func (s *supervisor) onProbed(seen failover.ProbeDone) {
	if s.cfg.Slot(seen.Server) == nil {
		return // it has been removed
	}
	if seen.Version != "" {
		s.servers.versions[seen.Server] = seen.Version
	}
	if seen.Obs.SenderServer == "" && seen.Obs.SenderHost != "" {
		seen.Obs.SenderServer = s.serverAt(seen.Obs.SenderHost, seen.Obs.SenderPort)
	}
	seen.Obs.SyncStandbys = slices.DeleteFunc(seen.Obs.SyncStandbys, func(name string) bool { return !s.hasServer(name) })
	s.feed(seen)
}

// serverAt returns the name of the server with that host and port, as a standby names
// its primary. host may be the configured host or the server's present address. The
// result is empty if no server matches, as when only the standby knows the name.
func (s *supervisor) serverAt(host, port string) string {
	for i, sv := range s.cfg.InSlots() {
		if strconv.Itoa(sv.Port) != port {
			continue
		}
		if strings.EqualFold(host, sv.Host) {
			return sv.Name
		}
		for _, a := range s.addressesOf(i) {
			if ip, _, err := net.SplitHostPort(a.address); a.network == "tcp" && err == nil && host == ip {
				return sv.Name
			}
		}
	}
	return ""
}

// probeLogins returns the logins of a probe in the order in which they are tried: those of ProbeLogins, and that of a
// client that has got in without a password.
func (s *supervisor) probeLogins(server int) []ipc.Login {
	list := ProbeLogins(s.cfg)
	if u := s.servers.letIn(server); u != nil && s.cfg.HealthCheckUser == "" {
		list = append(list, ipc.Login{User: u.user, Database: u.database})
	}
	return list
}

// ProbeLogins returns the logins of probes that the configuration knows. A user that health_check_user names is the only
// one: probes as somebody else would hide that it can't log in, and see less than it was granted.
func ProbeLogins(c *config.Config) []ipc.Login {
	var list []ipc.Login
	add := func(user, database string, password config.Secret) {
		list = append(list, ipc.Login{User: user, Database: database, Password: ipc.Secret(password.Reveal())})
	}
	if u := c.HealthCheckUser; u != "" {
		var p config.Secret
		if entry := c.ProbeCredential(); entry != nil {
			p = entry.Password
		}
		add(u, u, p)
		add(u, "postgres", p)
		return list
	}
	if u := c.Superuser; u != nil {
		add(u.Name, "postgres", u.Password)
	}
	for _, u := range c.Users[:min(len(c.Users), probeUsers)] {
		if len(u.Password) <= config.MaxOwnPassword {
			add(u.Name, "postgres", u.Password)
		}
	}
	return list
}

// letIn returns the last client that logged in to the server without a password, or
// else to another server: no client visits standbys, but they have the primary's users.
func (sv *servers) letIn(server int) *probeUser {
	if u := sv.noPass[server]; u != nil {
		return u
	}
	for _, u := range sv.noPass {
		if u != nil {
			return u
		}
	}
	return nil
}
