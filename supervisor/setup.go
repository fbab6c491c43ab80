package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// queueLimit is how many messages may wait for one child. For a worker, its configuration
// and one grant for each possible backend are added: at the end of a failover all waiting
// clients are served at once.
const queueLimit = 1024

func (s *supervisor) workerSpec(index int) startSpec {
	c := s.cfg
	items := len(c.Servers) + len(c.Users) + len(c.FrontendUsers) + len(c.HBA) + len(c.Limits) + len(s.service.clientTLS) + len(s.service.serverTLS) + len(c.Ident) + 3
	return startSpec{
		role: proc.RoleWorker, index: index, argv0: fmt.Sprintf("pgagroal: worker %d", index), peer: ipc.RoleWorker,
		lock: s.dir.Lock, queue: queueLimit + items + c.MaxConnections,
	}
}

// sendConfig sends a worker its whole configuration; the worker opens no file.
func (s *supervisor) sendConfig(c *child) {
	const gen = 1
	cfg, end := s.cfg, &ipc.ConfigEnd{Gen: gen}
	s.send(c, s.configBegin(gen, c.index))
	for i, sv := range cfg.Servers {
		s.send(c, &ipc.ConfigServer{Gen: gen, Index: i, Name: sv.Name, Host: sv.Host, Port: sv.Port})
		end.Servers++
	}
	for _, part := range slices.Concat(s.service.clientTLS, s.service.serverTLS) {
		s.send(c, &ipc.ConfigTLS{Gen: gen, Part: part})
		end.TLS++
	}
	for _, u := range s.service.users {
		u.Gen = gen
		s.send(c, &u)
		end.Users++
	}
	for _, h := range cfg.HBA {
		s.send(c, &ipc.ConfigHBA{
			Gen: gen, Line: h.Line, Type: h.Type, Database: ipc.Names(h.Database), User: ipc.Names(h.User), Address: h.Address, Method: h.Method,
			ClientCert: h.ClientCert, ClientName: h.ClientName, Map: h.Map, File: h.File,
		})
		end.HBA++
	}
	for _, l := range cfg.Ident {
		s.send(c, &ipc.ConfigIdent{Gen: gen, Map: l.Map, System: l.System, User: l.User, AnyUser: l.AnyUser})
		end.Ident++
	}
	for i, l := range cfg.Limits {
		s.send(c, &ipc.ConfigLimit{
			Keep: keptBy(ledgerRule(cfg.Limits, i), c.index, cfg.EffectiveWorkers()),
			Gen:  gen, Database: ipc.Names(l.Database), Aliases: l.Aliases, User: ipc.Names(l.User), QueryMS: queryMS(l.QueryTimeout),
		})
		end.Limits++
	}
	s.send(c, end)
}

// queryMS returns the query_timeout of a limit in milliseconds, -1 for none.
func queryMS(d time.Duration) int64 {
	if d == config.Unset {
		return -1
	}
	return d.Milliseconds()
}

// workerUsers returns what workers learn of the credential files: verifiers for the
// passwords of clients, which users have a password for the servers, and of the superuser
// only the name. It takes a millisecond or two for each user.
func workerUsers(c *config.Config, salt ipc.Secret) ([]ipc.ConfigUser, error) {
	verifiers := auth.NewVerifiers([]byte(salt.Reveal()))
	var list []ipc.ConfigUser
	add := func(kind ipc.UserKind, u config.Credential, server, verify bool) error {
		m := ipc.ConfigUser{Kind: kind, Name: u.Name}
		m.Password = server && u.Password != ""
		if verify {
			v, err := verifiers.Derive(u.Name, u.Password.Reveal())
			if err != nil {
				return fmt.Errorf("user %s: %w", u.Name, err)
			}
			m.Verifier = ipc.Secret(v.Encode())
		}
		list = append(list, m)
		return nil
	}
	frontend := func(name string) bool {
		return slices.ContainsFunc(c.FrontendUsers, func(u config.Credential) bool { return u.Name == name })
	}
	for _, u := range c.Users {
		if err := add(ipc.UserServer, u, true, !frontend(u.Name)); err != nil {
			return nil, err
		}
	}
	for _, u := range c.FrontendUsers {
		if err := add(ipc.UserFrontend, u, false, true); err != nil {
			return nil, err
		}
	}
	if c.Superuser != nil {
		return list, add(ipc.UserSuperuser, *c.Superuser, false, false)
	}
	return list, nil
}

// timersOf returns what a worker has to do after some time.
func timersOf(c *config.Config) ipc.Timers {
	t := ipc.Timers{
		QueryMS: c.QueryTimeout.Milliseconds(), IdleInTransactionMS: c.IdleInTransactionTimeout.Milliseconds(),
		DisconnectMS: c.DisconnectClient.Milliseconds(), DisconnectForce: c.DisconnectClientForce,
		ValidateFirst: c.Validation == config.ValidationForeground,
	}
	if c.Validation == config.ValidationBackground {
		t.ValidateEveryMS = c.BackgroundInterval.Milliseconds()
	}
	return t
}

func (s *supervisor) configBegin(gen uint64, index int) *ipc.ConfigBegin {
	c := s.cfg
	return &ipc.ConfigBegin{
		Gen: gen, Worker: index,
		Pipeline: c.ResolvedPipeline(), EvBackend: c.EvBackend,
		LogLevel: int(logline.Level(c.LogLevel)), LogLinePrefix: c.LogLinePrefix,
		LogConnections: c.LogConnections, LogDisconnections: c.LogDisconnections,
		BlockingTimeoutMS:       c.BlockingTimeout.Milliseconds(),
		AuthenticationTimeoutMS: c.AuthenticationTimeout.Milliseconds(),
		IdleTimeoutMS:           c.IdleTimeout.Milliseconds(),
		MaxPools:                c.MaxPools, Retries: c.MaxRetries,
		MaxConnectionAgeMS: c.MaxConnectionAge.Milliseconds(),
		ClientWaitMS:       c.FailoverClientWait.Milliseconds(),
		ConnectionRetryMS:  c.ConnectionRetryDelay.Milliseconds(),
		ResetQuery:         c.ServerResetQuery, ResetOnFailure: c.ServerResetQueryBehaviorOnFailure,
		ResetAlways: c.ServerResetQueryAlways,
		Failover:    c.DecidesFailover(), AllowUnknownUsers: c.AllowUnknownUsers,
		KeepAlive: c.KeepAlive, NoDelay: c.NoDelay,
		Timers:        timersOf(c),
		ProxyProtocol: c.ProxyProtocol,
		AddHost:       c.ApplicationNameAddHost,
		ScramSalt:     s.service.scramSalt,
		TLS:           s.service.tls,
		CountClients:  c.MaxClientsPerUser+c.MaxClientsPerDatabase > 0,
	}
}
