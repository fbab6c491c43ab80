package supervisor

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeUsers is how many entries of the users file a probe tries at most.
const probeUsers = 3

// probeTarget is what one probe needs.
type probeTarget struct {
	server           int
	id               uint64
	network, address string
	timeout          time.Duration
	logins           []probeLogin
}

// probeLogin is one attempt to log in. Its password must not be logged.
type probeLogin struct {
	user, database string
	password       config.Secret
}

// probe looks at a server. A name that has never resolved is waited for; else
// the last good address is used while the name is looked up again.
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
	w := s.servers.where[a.Server]
	if !w.known {
		s.feed(failover.ProbeDone{Server: a.Server, ID: a.ID, Outcome: failover.SawNoAddress, Started: now, Ended: now})
		return
	}
	t := probeTarget{
		server: a.Server, id: a.ID, network: w.network, address: w.address.address,
		timeout: a.Timeout, logins: s.probeLogins(a.Server),
	}
	s.env.background(func() func() {
		// The probe bounds itself; this is for one that doesn't.
		ctx, done := context.WithTimeout(context.Background(), t.timeout+time.Second)
		defer done()
		seen := s.env.probe(ctx, t)
		return func() { s.onProbed(seen) }
	})
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

// serverAt returns the name of the server that a standby calls by host and
// port: by the configured host, or by the address it has now. Empty: none, or
// a name that only the standby knows.
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

// probeLogins are the logins of a probe in the order in which they are tried.
func (s *supervisor) probeLogins(server int) []probeLogin {
	c := s.cfg
	var list []probeLogin
	if u := c.HealthCheckUser; u != "" {
		p := passwordOf(c, u)
		list = append(list, probeLogin{u, u, p}, probeLogin{u, "postgres", p})
	}
	if c.Superuser != nil {
		list = append(list, probeLogin{c.Superuser.Name, "postgres", c.Superuser.Password})
	}
	for i, u := range c.Users {
		if i == probeUsers {
			break
		}
		list = append(list, probeLogin{u.Name, "postgres", u.Password})
	}
	if u := s.servers.letIn(server); u != nil {
		list = append(list, probeLogin{user: u.user, database: u.database})
	}
	return list
}

// letIn is the last client that the server let in without a password, or that
// another server did: standbys, which no client visits, have the primary's users.
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
