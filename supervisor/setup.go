package supervisor

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// queueLimit is how many messages may wait for one child. For a worker, one grant for each
// possible backend is added: at the end of a failover all waiting clients are served at
// once.
const queueLimit = 1024

// A configuration may have any number of messages. A worker gets a part of them at a time.
const (
	configPart  = queueLimit / 2
	configPause = 5 * time.Millisecond
)

func (s *supervisor) workerSpec(index int) startSpec {
	return startSpec{
		role: proc.RoleWorker, index: index, argv0: fmt.Sprintf("pgagroal: worker %d", index), peer: ipc.RoleWorker,
		lock: s.dir.Lock, queue: queueLimit + s.cfg.MaxConnections,
	}
}

// sendConfig sends a worker a whole configuration; the worker opens no file.
func (s *supervisor) sendConfig(c *child, g *generation) {
	first := len(c.config) == 0
	c.config = append(c.config, g.messages(s.configBegin(g, c.index), s.workers.slots[c.index].place)...)
	if first {
		s.sendParts(c)
	}
}

// sendParts sends the next part of what a worker has to know.
func (s *supervisor) sendParts(c *child) {
	for len(c.config) > 0 && !c.ending() {
		if c.started.link.Len() >= configPart {
			s.after(configPause, func() { s.sendParts(c) })
			return
		}
		m := c.config[0]
		c.config = c.config[1:]
		s.send(c, m)
	}
}

// messages returns the messages of a configuration, in order. place says which of its workers
// the receiver is.
func (g *generation) messages(begin *ipc.ConfigBegin, place int) []ipc.Message {
	gen, cfg, end := g.gen, g.cfg, &ipc.ConfigEnd{Gen: g.gen}
	all := []ipc.Message{begin}
	for i, sv := range cfg.InSlots() {
		all = append(all, &ipc.ConfigServer{Gen: gen, Index: i, Name: sv.Name, Host: sv.Host, Port: sv.Port, Methods: sv.AuthMethods()})
		end.Servers++
	}
	for _, part := range slices.Concat(g.clientTLS, g.serverTLS) {
		all = append(all, &ipc.ConfigTLS{Gen: gen, Part: part})
		end.TLS++
	}
	for _, u := range g.users {
		u.Gen = gen
		all = append(all, &u)
		end.Users++
	}
	for _, h := range cfg.HBA {
		all = append(all, &ipc.ConfigHBA{
			Gen: gen, Line: h.Line, Type: h.Type, Database: ipc.Names(h.Database), User: ipc.Names(h.User), Address: h.Address, Method: h.Method,
			ClientCert: h.ClientCert, ClientName: h.ClientName, Map: h.Map, File: h.File,
		})
		end.HBA++
	}
	for _, l := range cfg.Ident {
		all = append(all, &ipc.ConfigIdent{Gen: gen, Map: l.Map, System: l.System, User: l.User, AnyUser: l.AnyUser})
		end.Ident++
	}
	for i, l := range cfg.Limits {
		all = append(all, &ipc.ConfigLimit{
			Keep: keptBy(ledgerRule(cfg.Limits, i), place, cfg.EffectiveWorkers()),
			Gen:  gen, Database: ipc.Names(l.Database), Aliases: l.Aliases, User: ipc.Names(l.User), QueryMS: queryMS(l.QueryTimeout),
		})
		end.Limits++
	}
	return append(all, end)
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
func workerUsers(c *config.Config, salt ipc.Secret, before *generation) ([]ipc.ConfigUser, error) {
	verifiers := auth.NewVerifiers([]byte(salt.Reveal()))
	var list []ipc.ConfigUser
	add := func(kind ipc.UserKind, u config.Credential, server, verify bool) error {
		m := ipc.ConfigUser{Kind: kind, Name: u.Name}
		m.Password = server && u.Password != ""
		if m.Verifier = before.verifier(kind, u); verify && m.Verifier == "" {
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
		ValidateFirst: c.Validation == config.ValidationForeground, AuthFailureMS: c.AuthFailureDelay.Milliseconds(),
	}
	if c.Validation == config.ValidationBackground {
		t.ValidateEveryMS = c.BackgroundInterval.Milliseconds()
	}
	return t
}

func (s *supervisor) configBegin(g *generation, index int) *ipc.ConfigBegin {
	c := g.cfg
	return &ipc.ConfigBegin{
		Gen: g.gen, Worker: index,
		Pipeline: c.ResolvedPipeline(), EvBackend: c.EvBackend,
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
		Failover:    c.DecidesFailover(), KeepSessions: c.ResolvedKeepSessions(), KeepFunctions: c.KeepFunctions(),
		AllowUnknownUsers: c.AllowUnknownUsers,
		KeepAlive:         c.KeepAlive, NoDelay: c.NoDelay,
		Timers:        timersOf(c),
		ProxyProtocol: c.ProxyProtocol,
		AddHost:       c.ApplicationNameAddHost,
		ScramSalt:     s.service.scramSalt,
		TLS:           g.tls,
		CountClients:  c.MaxClientsPerUser+c.MaxClientsPerDatabase > 0,
		AuthQuery: ipc.AuthQuery{
			On: c.AuthQuery, InClients: c.AuthQueryDatabase == config.ClientsDatabase,
			MaxAgeMS: c.AuthQueryMaxAge.Milliseconds(), MaxUsers: c.AuthQueryMaxUsers, MD5: c.MD5,
		},
	}
}
