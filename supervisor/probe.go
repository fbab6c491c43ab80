package supervisor

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/prober/health"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeUsers is how many entries of the users file a probe tries at most.
const probeUsers = 3

// probe looks at a server. If its name has never resolved, probe waits for that;
// otherwise it uses the last good address while the name is looked up again.
func (s *supervisor) probe(a failover.Probe) {
	w := s.servers.where[a.Server]
	if !w.known {
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
	t, known := s.target(a.Server, a.Timeout)
	if !known {
		s.feed(failover.ProbeDone{Server: a.Server, ID: a.ID, Outcome: failover.SawNoAddress, Started: now, Ended: now})
		return
	}
	t.ID = a.ID
	elsewhere(s, func() (failover.ProbeDone, error) {
		// The probe has its own limits; this one is for a probe that doesn't keep them.
		ctx, done := context.WithTimeout(context.Background(), t.Timeout+time.Second)
		defer done()
		return s.env.probe(ctx, t), nil
	}, func(seen failover.ProbeDone, err error) {
		if err != nil { // a panic, which says nothing about the server
			seen = failover.ProbeDone{
				Server: a.Server, ID: a.ID, Outcome: failover.SawNoAddress, Code: "internal error", Started: now, Ended: s.env.now(),
			}
		}
		s.onProbed(seen)
	})
}

// target returns how to probe a server within timeout. known is false if its name has
// never resolved.
func (s *supervisor) target(server int, timeout time.Duration) (t health.Target, known bool) {
	a, known := s.addressOf(server)
	return health.Target{
		Server: server, Network: a.network, Address: a.address, Timeout: timeout, Logins: s.probeLogins(server),
	}, known
}

func (s *supervisor) onProbed(seen failover.ProbeDone) {
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
	for i, sv := range s.cfg.Servers {
		if strconv.Itoa(sv.Port) != port {
			continue
		}
		a, _ := s.addressOf(i)
		ip, _, err := net.SplitHostPort(a.address)
		if strings.EqualFold(host, sv.Host) || a.network == "tcp" && err == nil && host == ip {
			return sv.Name
		}
	}
	return ""
}

// probeLogins returns the logins of a probe in the order in which they are tried.
func (s *supervisor) probeLogins(server int) []health.Login {
	c := s.cfg
	var list []health.Login
	add := func(user, database string, password config.Secret) {
		list = append(list, health.Login{User: user, Database: database, Password: password.Reveal()})
	}
	if u := c.HealthCheckUser; u != "" {
		p := passwordOf(c, u)
		add(u, u, p)
		add(u, "postgres", p)
	}
	if u := c.Superuser; u != nil {
		add(u.Name, "postgres", u.Password)
	}
	for _, u := range c.Users[:min(len(c.Users), probeUsers)] {
		add(u.Name, "postgres", u.Password)
	}
	if u := s.servers.letIn(server); u != nil {
		add(u.user, u.database, "")
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

func passwordOf(c *config.Config, name string) config.Secret {
	if c.Superuser != nil && c.Superuser.Name == name {
		return c.Superuser.Password
	}
	for _, u := range c.Users {
		if u.Name == name {
			return u.Password
		}
	}
	return ""
}
