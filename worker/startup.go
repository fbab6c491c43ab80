package worker

import (
	"cmp"
	"crypto/x509"
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

// maxSetups is how many clients a worker may be setting up. It closes further clients at
// once.
const maxSetups = 8192

// client is a client's connection from its hand-over to its end.
type client struct {
	id    uint64
	addr  string // "host:port", empty for a Unix socket
	start time.Time
	// minor is the minor version of protocol 3 that the client speaks. It is set before
	// the session begins.
	minor uint16
	// leaves says that the client has left something on a backend: see leftovers.go.
	leaves bool
	// conn is set during the set-up, session afterwards.
	conn    socket
	session *session
}

// login is what a client asked for in its start-up packet.
type login struct {
	user      string
	database  string         // real name
	requested string         // as the client named it
	follow    relay.Params   // tracked parameters, which a backend takes over from its client
	rest      []pgwire.Param // other parameters, which are part of key
	key       ipc.PoolKey
	unproven  bool // only the server can authenticate the user
}

func (l *login) application() string {
	v, _ := l.follow.Get("application_name")
	return v
}

// maxApplication is the longest application_name on a server, in bytes.
const maxApplication = 63

// addHost adds the client's address to its application_name, and cuts the name if both are
// too long. It leaves out the port, because with the port every client's name would be
// different.
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

// loginKey identifies a login within its pool.
type loginKey struct{ requested, application string }

// share returns the login that a session keeps after its start. Sessions with equal logins
// share one, so that idle clients need less memory.
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

// onNewClient takes over the socket of a client and starts the set-up. fds is empty if this
// process had no free descriptor for the socket; then only this client is lost.
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

// setUp begins the dialogue with a client.
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

// gone removes a client whose socket is closed.
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

// Clients that have left are reported to the supervisor in batches. Where each client
// connects for one query only, the supervisor would otherwise wake up twice per client.
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
	if l.unproven = method == auth.All; l.unproven {
		return l, nil
	}
	if err := s.authenticate(l, method); err != nil {
		s.w.stats.badPassword(err)
		return nil, &loginError{l, err}
	}
	return l, nil
}

// refusal is the error for a client that is refused. The client gets message and hint;
// why is for the log.
type refusal struct {
	code, message, why string
	hint               string // may be empty
}

func (r *refusal) Error() string { return r.why }

// refused returns the error that clients get for most refusals, as from C pgagroal.
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

// end tells the client why it is refused, and closes its connection.
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

// startupRefusal returns the answer to a start-up packet that can't be read. Like
// PostgreSQL, it answers nothing if the length is wrong, because such a peer is hardly a
// PostgreSQL client.
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

// lingerClose sends a last message and closes the connection. To close it with unread
// bytes would send a reset, which can overtake the message. So lingerClose reads them
// first, within limits.
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
		log.Info("connection received", "address", s.c.addr)
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

// handshakeError says that a TLS handshake has failed. The client has got an alert, and
// can't read anything else.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string {
	return "could not accept SSL connection: " + e.err.Error()
}
func (e *handshakeError) Unwrap() error { return e.err }

// errEncrypt refuses a client whose connection isn't encrypted but must be.
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

// errLongStartup refuses names and parameters that are longer than a key of the supervisor
// may be.
var errLongStartup = &refusal{
	code: pgwire.CodeProgramLimitExceeded, message: "startup parameters are too long", why: "startup parameters are too long",
}

// errReplication refuses replication connections: they can't be shared, and can't move to
// another server.
var errReplication = &refusal{
	code:    pgwire.CodeFeatureNotSupported,
	message: "replication connections are not supported by the connection pool",
	hint:    "Connect to the server itself.",
	why:     "replication connection",
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
	if err := s.checkCertificate(l.user, &rule); err != nil {
		return "", err
	}
	switch {
	case s.cfg.AllowUnknownUsers && !s.cfg.checked(l.user):
		return auth.All, nil
	case (rule.Method == auth.Trust || rule.Method == auth.Cert) && !s.cfg.known[l.user]:
		if !s.cfg.AllowUnknownUsers {
			return "", refused(errUnknownUser.Error())
		}
		return auth.SCRAM, nil
	case rule.Method == auth.All, rule.Method == auth.MD5:
		return auth.SCRAM, nil
	case rule.Method == auth.Cert:
		return auth.Trust, nil // its certificate was enough
	}
	return rule.Method, nil
}

// checkCertificate checks the certificate that a rule asks for: that there is one (a wrong
// one doesn't survive the handshake), and whether it may log in as the user.
func (s *setup) checkCertificate(user string, rule *auth.Rule) error {
	if rule.Method != auth.Cert && rule.ClientCert == "" {
		return nil
	}
	var peer *x509.Certificate
	if t := s.d.conn.Secured(); t != nil {
		peer = t.Facts().Peer
	}
	if peer == nil {
		return &refusal{
			code: pgwire.CodeInvalidAuthorization, message: "connection requires a valid client certificate",
			why: "no client certificate, which " + rule.String() + " asks for",
		}
	}
	if rule.Method != auth.Cert && rule.ClientCert != auth.VerifyFull {
		return nil
	}
	names := auth.NamesOf(peer, rule.ClientName)
	for _, name := range names {
		if auth.MayBe(s.cfg.ident, rule.Map, name, user) {
			return nil
		}
	}
	return &refusal{
		code: pgwire.CodeInvalidAuthorization, message: "certificate authentication failed for user \"" + user + "\"",
		why: fmt.Sprintf("the certificate is for %q, by %s", names, rule),
	}
}

// errUnknownUser says in the log why a client can't authenticate. The client isn't told.
var errUnknownUser = errors.New("unknown user, and allow_unknown_users is off")

// endPoint returns the channel binding data of the TLS connection, or nil.
func (s *setup) endPoint() []byte {
	if t := s.d.conn.Secured(); t != nil {
		return t.Facts().EndPoint
	}
	return nil
}

// matches reports whether a cleartext password from a client is that of user. Unless it was
// right before, that takes a derivation of keys, which runs in a goroutine, because it
// would stop the loop.
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

// authenticate checks the client's password. An unknown user fails in the same way as a
// known user with a wrong password, so that a client can't find out which users exist.
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
