package worker

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// maxSetups limits the set-ups of a worker; it closes further clients at once.
const maxSetups = 8192

// client is a client's connection from its hand-over to its end.
type client struct {
	id    uint64
	addr  string // "host:port", empty for a Unix socket
	start time.Time
	// minor is the minor version of protocol 3 that the client speaks; set before the
	// hand-over.
	minor uint16
	// leaves: it has left something on a backend.
	leaves bool
	// conn is set while the client is set up, session afterwards.
	conn    socket
	session *session
}

// login is what a client asked for in its start-up packet.
type login struct {
	user      string
	database  string       // real name
	requested string       // as the client named it
	follow    relay.Params // parameters that are not part of key
	rest      []pgwire.Param
	key       ipc.PoolKey
	unproven  bool // only the server can authenticate the user
}

func (l *login) application() string {
	v, _ := l.follow.Get("application_name")
	return v
}

// maxApplication is the longest application_name on a server, in bytes.
const maxApplication = 63

// addHost adds the client's address to its application_name, and cuts the name itself
// if there is too little room. It leaves out the port, which would make every client's
// name different.
func (l *login) addHost(addr string) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return
	}
	name, host := l.application(), ap.Addr().Unmap().String()
	if name != "" {
		host = " - " + host
	}
	l.follow.Set("application_name", name[:min(len(name), max(maxApplication-len(host), 0))]+host)
}

// errNoRoom says that this process has no free descriptors.
var errNoRoom = errors.New("too many open files")

var errTooManySetups = errors.New("too many clients are being set up")

// maxShared is how many different logins of a pool are kept for sharing.
const maxShared = 1000

// loginKey is what sessions with the same login have in common, in addition to the
// pool.
type loginKey struct{ requested, application string }

// share returns the login that a session keeps once it is let in. Sessions with equal
// logins get the same one, since idle clients should cost little.
func (w *worker) share(l *login) *login {
	p := w.shelf.Lookup(pool.Key(l.key))
	if p == nil {
		return l
	}
	f := factsOf(p)
	k := loginKey{l.requested, l.application()}
	if same := f.logins[k]; same != nil {
		return same
	}
	if len(f.logins) < maxShared {
		f.logins[k] = l
	}
	return l
}

// onNewClient takes over a socket and starts its set-up. fds is empty if there was no
// free descriptor for the socket: that client is lost, and the others are served as
// before.
func (w *worker) onNewClient(m *ipc.NewClient, fds []int) {
	c := &client{id: m.ID, addr: m.Address, start: time.Now()}
	d, err := w.setUp(c, fds)
	if err != nil {
		w.log.Warn("client closed before its set-up", "client", m.ID, "error", err)
		w.tellGone(m.ID)
		return
	}
	c.conn = d
	w.clients[c.id] = c
	w.burst.Note()
	d.wake()
}

// setUp starts the dialogue with a client whose socket has come.
func (w *worker) setUp(c *client, fds []int) (*dialogue, error) {
	if len(fds) == 0 {
		return nil, errNoRoom
	}
	if len(w.clients)-w.sessions >= maxSetups {
		unix.Close(fds[0])
		return nil, errTooManySetups
	}
	return w.coroutines.begin(w.loop, fds[0], func(d *dialogue) {
		s := setup{w: w, c: c, cfg: w.cfg, d: d, conn: d, log: w.log.With("client", c.id)}
		s.run()
	})
}

// gone removes a client, whose socket is closed already.
func (w *worker) gone(c *client) {
	if w.clients[c.id] != c {
		return
	}
	delete(w.clients, c.id)
	w.tellGone(c.id)
	if w.cfg.LogDisconnections {
		w.log.Info("disconnection", "client", c.id, "address", c.addr, "lasted", time.Since(c.start).Round(time.Millisecond))
	}
	w.checkDrained()
}

// The supervisor gets the clients that have left in batches: where each client connects
// for one query, it would otherwise be woken a second time for each.
const (
	goneDelay = 20 * time.Millisecond
	goneMax   = 1000
)

func (w *worker) tellGone(id uint64) {
	w.goneIDs = append(w.goneIDs, id)
	switch len(w.goneIDs) {
	case 1:
		w.loop.After(goneDelay, w.flushGone)
	case goneMax:
		w.flushGone()
	}
}

func (w *worker) flushGone() {
	if len(w.goneIDs) > 0 {
		w.send(&ipc.ClientsGone{IDs: w.goneIDs})
		w.goneIDs = nil
	}
}

// setup is the set-up of one client. It is a coroutine of the loop, and a goroutine if
// the server itself must authenticate the client.
type setup struct {
	w   *worker
	c   *client
	cfg *config
	// d is nil in a goroutine; conn is d, or what replaces it.
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
	if l.unproven = method == auth.All; l.unproven {
		return l, nil
	}
	if err := s.authenticate(l, method); err != nil {
		s.w.stats.badPassword(err)
		return nil, &loginError{l, err}
	}
	return l, nil
}

// refusal is the answer to a client that isn't let in. Message is what the client gets,
// why is for the log.
type refusal struct {
	code, message, why string
	hint               string // may be empty
}

func (r *refusal) Error() string { return r.why }

// refused is the one error text that pgagroal has for most refusals.
func refused(why string) error {
	return &refusal{code: pgwire.CodeTooManyConnections, message: "connection refused", why: why}
}

// loginError is a failed authentication, by this worker or by the server.
type loginError struct {
	l   *login
	err error
}

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// end sends the client what it should know and closes its connection.
func (s *setup) end(err error) {
	if errors.Is(err, logline.ErrPanic) && !errors.As(err, new(*handshakeError)) {
		err = refused(err.Error())
	}
	var msg []byte
	var r *refusal
	var le *loginError
	switch {
	case errors.As(err, new(*handshakeError)):
		s.log.Info("client refused", "address", s.c.addr, "reason", err)
		fallthrough
	case err == nil || errors.Is(err, io.EOF):
		s.conn.Close()
		s.w.loop.Post(func() { s.w.gone(s.c) })
		return
	case errors.As(err, &r):
		msg = pgwire.AppendError(nil, pgwire.SeverityFatal, r.code, r.message, pgwire.Hint(r.hint))
	case errors.As(err, &le):
		msg = auth.AppendRefusal(nil, le.l.user, le.err)
	default:
		msg = startupRefusal(err)
	}
	s.log.Info("client refused", "address", s.c.addr, "reason", err)
	lingerClose(s.conn, msg)
	s.w.loop.Post(func() { s.w.gone(s.c) })
}

// startupRefusal returns the answer to a start-up packet that can't be read. As in
// PostgreSQL there is none if the length is wrong: such a peer is hardly a PostgreSQL
// client, and drivers throw an error that arrives after they have left.
func startupRefusal(err error) []byte {
	var se *pgwire.StartupError
	var ve *pgwire.VersionError
	switch {
	case errors.As(err, &se):
		return pgwire.AppendError(nil, pgwire.SeverityFatal, se.Code, se.Message, pgwire.Hint(se.Hint))
	case errors.As(err, &ve):
		return pgwire.AppendError(nil, pgwire.SeverityFatal, pgwire.CodeFeatureNotSupported, ve.Error())
	}
	return nil
}

// lingerClose sends a last message and closes. A close with unread bytes would send a
// reset, which can overtake the message; so lingerClose reads them, within limits.
func lingerClose(conn socket, msg []byte) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(msg); err != nil {
		return
	}
	if err := conn.CloseWrite(); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, 64<<10)
}

// receive finds out the client's address, from a proxy in front of pgagroal if there is
// one.
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
		log.Info("connection received", "address", s.c.addr)
	}
	return nil
}

// begin reads packets up to a StartupMessage. A nil login without an error means that
// the connection has served its purpose.
func (s *setup) begin() (*login, error) {
	// One SSLRequest and one GSSENCRequest may come first. A second one is taken for an
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

// offersTLS reports whether the client may encrypt its connection. As in PostgreSQL a
// Unix socket is never encrypted.
func (s *setup) offersTLS() bool {
	return s.cfg.tls != nil && s.c.addr != "" && s.d.conn.Secured() == nil
}

// answerRequest answers an SSLRequest or GSSENCRequest, and encrypts the connection if it
// can.
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

// encrypt encrypts the connection. begun are bytes of the client's handshake that were
// read already: then the client hasn't asked before, and must have named the protocol.
func (s *setup) encrypt(begun []byte) error {
	if err := s.d.encrypt(s.cfg.tls, s.w.loop.Memory(), s.log, begun); err != nil {
		return &handshakeError{err}
	}
	if begun != nil {
		if err := tlspolicy.CheckDirect(s.d.conn.Secured().Facts().Protocol); err != nil {
			return &handshakeError{err}
		}
	}
	return nil
}

// handshakeError is a TLS handshake that has failed. The client has been sent an alert,
// and understands nothing else.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string {
	return "could not accept SSL connection: " + e.err.Error()
}
func (e *handshakeError) Unwrap() error { return e.err }

// errEncrypt refuses a client that didn't encrypt its connection where it must.
var errEncrypt = &refusal{
	code: pgwire.CodeInvalidAuthorization, message: "the connection must be encrypted",
	hint: "Connect with sslmode=require or better.", why: "not encrypted, and tls = require",
}

// startup parses a StartupMessage.
func (s *setup) startup(m pgwire.Startup) (*login, error) {
	if s.cfg.TLS.Required && s.c.addr != "" && s.d.conn.Secured() == nil {
		return nil, errEncrypt
	}
	if replicates, err := m.Replication(); err != nil {
		return nil, err
	} else if replicates {
		return nil, errReplication
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
		return nil, errLongStartup
	}
	return l, nil
}

// errLongStartup refuses names that no server has: the supervisor accepts no key so
// long.
var errLongStartup = &refusal{
	code: pgwire.CodeProgramLimitExceeded, message: "startup parameters are too long", why: "startup parameters are too long",
}

// errReplication refuses replication: such a connection can't be shared, and must
// either stay with the same server after a failover or fail.
var errReplication = &refusal{
	code:    pgwire.CodeFeatureNotSupported,
	message: "replication connections are not supported by the connection pool",
	hint:    "Connect to the server itself.",
	why:     "replication connection",
}

// negotiate tells a client that asks for a newer version or for options which version
// pgagroal speaks, and that all of the options are unknown. Like PostgreSQL it sends
// nothing to a client that asks for less.
func (s *setup) negotiate(m pgwire.Startup) error {
	s.c.minor = min(m.Minor, pgwire.NewestMinor)
	opts := m.ProtocolOptions()
	if m.Minor == s.c.minor && len(opts) == 0 {
		return nil
	}
	_, err := s.conn.Write(pgwire.AppendNegotiateProtocolVersion(nil, s.c.minor, opts))
	return err
}

// admit matches a client against pgagroal_hba.conf. The method All means that only the
// server can authenticate the user.
func (s *setup) admit(l *login) (auth.Method, error) {
	facts := auth.Facts{
		Database: l.requested, RealDatabase: l.database, User: l.user, UnixSocket: s.c.addr == "", TLS: s.d.conn.Secured() != nil,
	}
	host := "[local]"
	if ap, err := netip.ParseAddrPort(s.c.addr); err == nil {
		facts.Addr, host = ap.Addr(), ap.Addr().String()
	}
	rule, ok := s.match(facts)
	if !ok {
		msg := "no pgagroal_hba.conf entry for host \"" + host + "\", user \"" + l.user + "\", database \"" + l.requested + "\""
		return "", &refusal{code: pgwire.CodeInvalidAuthorization, message: msg, why: msg}
	}
	if rule.Method == auth.Reject {
		return "", refused("rejected by " + rule.String())
	}
	if rule.Method == auth.Cert || rule.ClientCert != "" {
		return "", refused(rule.String() + " asks for a certificate, and there is no TLS")
	}
	switch {
	case s.cfg.AllowUnknownUsers && !s.cfg.checked(l.user):
		return auth.All, nil
	case rule.Method == auth.Trust && !s.cfg.known[l.user]:
		if !s.cfg.AllowUnknownUsers {
			return "", refused(errUnknownUser.Error())
		}
		return auth.SCRAM, nil
	case rule.Method == auth.All, rule.Method == auth.MD5:
		return auth.SCRAM, nil
	}
	return rule.Method, nil
}

// errUnknownUser says, only in the log, why a client can't authenticate.
var errUnknownUser = errors.New("unknown user, and allow_unknown_users is off")

// endPoint is what SCRAM binds to the TLS connection, nil for nothing.
func (s *setup) endPoint() []byte {
	if t := s.d.conn.Secured(); t != nil {
		return t.Facts().EndPoint
	}
	return nil
}

// matches reports whether a cleartext password from a client is that of user. The first
// time that takes a derivation of keys, which would stop the loop.
func (s *setup) matches(user, password string) (ok bool, err error) {
	vs := s.cfg.verifiers
	if vs.Shown(user, password) {
		return true, nil
	}
	s.d.await(func(done func()) {
		elsewhere(s.w, func() (bool, error) {
			s.w.secrets.deriving <- struct{}{}
			defer func() { <-s.w.secrets.deriving }()
			return vs.Matches(user, password), nil
		}, func(matches bool, failure error) {
			ok, err = matches, failure
			done()
		})
	})
	return ok, err
}

// authenticate checks the client's password. A user that is unknown here fails in the
// same way as a known user with a wrong password, so that user names can't be guessed.
func (s *setup) authenticate(l *login, method auth.Method) error {
	var err error
	switch method {
	case auth.Trust:
		return nil
	case auth.Password:
		var broken error
		err = auth.ServePassword(s.conn, func(p string) (ok bool) {
			ok, broken = s.matches(l.user, p)
			return ok
		})
		err = cmp.Or(broken, err)
	default:
		err = auth.ServeSCRAM(s.conn, s.cfg.verifiers.Lookup(l.user), s.endPoint())
	}
	if badPassword(err) && !s.cfg.checked(l.user) {
		return fmt.Errorf("%w: %w", errUnknownUser, err)
	}
	return err
}
