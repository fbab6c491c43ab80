package worker

import (
	"errors"
	"log/slog"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// setup is the set-up of one client. It runs as a coroutine of the loop. If the server
// itself must authenticate the client, it continues as a goroutine.
type setup struct {
	w   *worker
	c   *client
	cfg *config
	// d is nil in the goroutine. conn is d, or in the goroutine the connection itself.
	d    *dialogue
	conn socket
	log  *slog.Logger
}

// run brings a client from its first packet to the event loop, or refuses it.
func (s *setup) run() {
	var l *login
	err := logline.Guarded(s.log, func() (err error) { l, err = s.identify(); return err })
	if l == nil {
		s.end(err)
		return
	}
	if l.unproven {
		if !s.welcome(l) {
			s.leaveLoop(l)
		}
		return
	}
	conn, err := s.d.release()
	if err != nil {
		s.end(err)
		return
	}
	if cs := s.w.newSession(s.c, conn, l); cs != nil {
		cs.enter()
	}
}

// identify finds out who the client is, and has it prove that unless only the server
// can. A nil login without an error means that the connection has served its purpose.
func (s *setup) identify() (*login, error) {
	if err := s.receive(); err != nil {
		return nil, err
	}
	l, err := s.begin()
	if l == nil {
		return nil, err
	}
	method, err := s.admit(l)
	if err != nil {
		return nil, err
	}
	if err := s.enter(l); err != nil {
		return nil, err
	}
	if err := s.proveOrPass(l, method); err != nil {
		return nil, err
	}
	if err := s.countIn(l); err != nil {
		return nil, err
	}
	return l, nil
}

// proveOrPass has the client prove its password, unless only the server can check it.
func (s *setup) proveOrPass(l *login, method auth.Method) error {
	if l.unproven = method == auth.All; l.unproven {
		return s.mayPass()
	}
	if err := s.prove(l, method); err != nil {
		s.w.stats.badPassword(err)
		return &loginError{l, err}
	}
	return nil
}

// receive starts the time limit of the authentication, and reads the client's address from
// the PROXY header if there is a proxy in front of pgagroal.
func (s *setup) receive() error {
	if err := s.conn.SetDeadline(time.Now().Add(ms(s.cfg.AuthenticationTimeoutMS))); err != nil {
		return err
	}
	log := s.log
	if s.cfg.ProxyProtocol && s.c.addr != "" {
		real, err := readProxy(s.conn)
		if err != nil {
			return err
		}
		log = log.With("proxy", s.c.addr)
		if real.IsValid() {
			s.c.addr = real.String()
		}
	}
	if s.cfg.LogConnections {
		logline.Unlimited(log).Info("connection received", "address", s.c.addr)
	}
	return nil
}

// begin reads packets up to the StartupMessage. A nil login without an error means that
// the connection was for a cancel request, which has been handled.
func (s *setup) begin() (*login, error) {
	// One SSLRequest and one GSSENCRequest may come first. A second one counts as an
	// unknown version, as in PostgreSQL.
	var seen [pgwire.CancelRequest + 1]bool
	for {
		m, err := pgwire.ReadStartup(s.conn)
		var begun *pgwire.TLSError
		if errors.As(err, &begun) && s.offersTLS() && !seen[pgwire.SSLRequest] {
			seen[pgwire.SSLRequest] = true
			if err := s.encrypt(begun.Begun); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		switch m.Kind {
		case pgwire.SSLRequest, pgwire.GSSENCRequest:
			if seen[m.Kind] {
				return nil, m.Kind.AsVersion()
			}
			seen[m.Kind] = true
			if err := s.answerRequest(m.Kind); err != nil {
				return nil, err
			}
		case pgwire.CancelRequest:
			s.cancelRequest(m.PID, m.Key)
			return nil, nil
		default:
			return s.startup(m)
		}
	}
}

// offersTLS reports whether the client can encrypt its connection now. As in PostgreSQL,
// Unix sockets are never encrypted.
func (s *setup) offersTLS() bool {
	return s.cfg.tls != nil && s.c.addr != "" && s.d.conn.Secured() == nil
}

// answerRequest answers an SSLRequest or GSSENCRequest. If the answer is yes, it encrypts
// the connection.
func (s *setup) answerRequest(kind pgwire.StartupKind) error {
	if kind != pgwire.SSLRequest || !s.offersTLS() {
		_, err := s.conn.Write([]byte{'N'})
		return err
	}
	if _, err := s.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return s.encrypt(nil)
}

// encrypt encrypts the connection. begun is nil after an SSLRequest. For a client that
// began with the handshake, it has the bytes that were already read; such a client must
// negotiate PostgreSQL's protocol.
func (s *setup) encrypt(begun []byte) error {
	err := s.d.encrypt(s.cfg, s.log, begun)
	s.w.stats.handshake("client", s.d.conn.Secured(), err)
	if err != nil {
		return &handshakeError{err}
	}
	if begun != nil {
		if err := tlspolicy.CheckDirect(s.d.conn.Secured().Facts().Protocol); err != nil {
			return &handshakeError{err}
		}
	}
	return nil
}

// startup parses a StartupMessage.
func (s *setup) startup(m pgwire.Startup) (*login, error) {
	if s.cfg.TLS.Required && s.c.addr != "" && s.d.conn.Secured() == nil {
		return nil, pgwire.RefusalNotEncrypted.With()
	}
	if replicates, err := m.Replication(); err != nil {
		return nil, err
	} else if replicates {
		return nil, pgwire.RefusalReplication.With()
	}
	if err := s.negotiate(m); err != nil {
		return nil, err
	}
	l := &login{user: m.User, requested: m.Database, database: s.cfg.realDatabase(m.Database)}
	var key string
	l.follow, key, l.rest = relay.SplitStartup(m.Params, s.cfg.Pipeline)
	if s.cfg.AddHost {
		l.addHost(s.c.addr)
	}
	l.key = ipc.PoolKey{Database: l.database, User: l.user, Params: key}
	if l.key.Size() > ipc.MaxKey {
		return nil, pgwire.RefusalLongStartup.With()
	}
	return l, nil
}

// negotiate answers a client that asks for a newer version or for protocol options: it
// sends the version that pgagroal speaks, and says that it knows none of the options. Like
// PostgreSQL, it sends nothing to other clients.
func (s *setup) negotiate(m pgwire.Startup) error {
	s.c.minor = min(m.Minor, pgwire.NewestMinor)
	opts := m.ProtocolOptions()
	if m.Minor == s.c.minor && len(opts) == 0 {
		return nil
	}
	_, err := s.conn.Write(pgwire.AppendNegotiateProtocolVersion(nil, s.c.minor, opts))
	return err
}
