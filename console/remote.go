package console

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/tlsmem"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// The management port. This process reads what admins send and takes it apart; the supervisor decides about their logins
// and commands, and gets decoded messages only:
//
//  1. begin reads the first packets, like those of a client: TLS, and who wants to log in.
//  2. login passes the messages of SCRAM on, over a link to the supervisor that is for this login alone.
//  3. command passes on the command and its answer, whose seals this process can't make: see auth.Seal.

const (
	// maxRemote is how many connections the port has at a time; see room. An address, or a network of IPv6, has
	// maxOfOrigin at most.
	maxRemote   = 128
	maxOfOrigin = 8
	// linkLimit is how long the supervisor may take to open a link.
	linkLimit = 5 * time.Second
	// verdictLimit is how long the supervisor may take to decide about a login, auth_failure_delay included.
	verdictLimit = time.Minute
	// commandLimit is how long an admin who has logged in may take to send the command.
	commandLimit = 10 * time.Second
	// acceptPause is the pause after an accept that failed.
	acceptPause = 100 * time.Millisecond
)

// link is the connection to the supervisor for one login, an *ipc.Conn.
type link interface {
	Send(ipc.Message, ...int) error
	Receive() (ipc.Envelope, error)
	SetPhase(ipc.Phase)
	SetDeadline(time.Time) error
	Close() error
}

// remote serves the management port.
type remote struct {
	log      *slog.Logger
	limit    time.Duration // for a login: authentication_timeout
	required bool          // only TLS is allowed
	tls      *tls.Config   // nil if it isn't offered
	open     func() (link, error)
	room     *room

	mu      sync.Mutex
	origins map[netip.Prefix]int // connections

	conns sync.Map // of net.Conn, for the end
	all   sync.WaitGroup
}

// start serves at every listener until stop is called, which waits for the end.
func (r *remote) start(listeners []net.Listener) (stop func()) {
	r.room, r.origins = newRoom(maxRemote), map[netip.Prefix]int{}
	var accepting sync.WaitGroup
	for _, l := range listeners {
		accepting.Go(func() {
			if err := logline.Guarded(r.log, func() error { return r.accept(&bounded{Listener: l, room: r.room}) }); !errors.Is(err, net.ErrClosed) {
				r.log.Error("a port can't be served any more", "address", l.Addr().String(), "error", err)
			}
		})
	}
	return func() {
		for _, l := range listeners {
			l.Close()
		}
		accepting.Wait()
		r.conns.Range(func(c, _ any) bool {
			c.(net.Conn).Close()
			return true
		})
		r.all.Wait()
	}
}

func (r *remote) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // no descriptor or no memory was free, which doesn't last
			r.log.Error("client can't be accepted", "address", l.Addr().String(), "error", err)
			time.Sleep(acceptPause)
			continue
		}
		r.conns.Store(c, nil)
		r.all.Go(func() {
			defer r.conns.Delete(c)
			defer c.Close()
			_ = logline.Guarded(r.log, func() error { // the admin sees the end of the connection
				r.serve(c)
				return nil
			})
		})
	}
}

// serve serves one connection.
func (r *remote) serve(c net.Conn) {
	address := c.RemoteAddr().String()
	from := origin(address)
	if !r.enter(from) {
		r.log.Info("client refused", "port", "management", "address", address, "reason", "too many connections of this address")
		return
	}
	defer r.leave(from)
	if err := c.SetDeadline(time.Now().Add(r.limit)); err != nil {
		return
	}
	a := &admin{remote: r, conn: c, address: address}
	err := a.begin()
	if err == nil {
		r.room.setQuiet(roomedOf(c), false) // a login under way keeps its place
		err = a.manage()
	}
	a.end(err)
}

// origin returns what counts as one address.
func origin(address string) netip.Prefix {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := ap.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

func (r *remote) enter(from netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.origins[from] >= maxOfOrigin {
		return false
	}
	r.origins[from]++
	return true
}

func (r *remote) leave(from netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.origins[from]--; r.origins[from] == 0 {
		delete(r.origins, from)
	}
}

// admin is one connection to the management port.
type admin struct {
	*remote
	conn     net.Conn // encrypted after begin, if the admin wants that
	address  string
	tls      bool
	endPoint []byte // for channel binding
	user     string
}

// begin reads packets up to the StartupMessage.
func (a *admin) begin() error {
	var seen [pgwire.CancelRequest + 1]bool
	for {
		m, err := pgwire.ReadStartup(a.conn)
		var begun *pgwire.TLSError
		switch {
		case errors.As(err, &begun) && a.offersTLS():
			if err := a.encrypt(begun.Begun); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case m.Kind == pgwire.CancelRequest:
			return io.EOF
		case m.Kind == pgwire.StartupMessage:
			return a.startup(m)
		case seen[m.Kind]:
			return m.Kind.AsVersion()
		}
		seen[m.Kind] = true
		if err := a.answerRequest(m.Kind); err != nil {
			return err
		}
	}
}

func (a *admin) offersTLS() bool { return a.remote.tls != nil && !a.tls }

// answerRequest answers an SSLRequest or GSSENCRequest.
func (a *admin) answerRequest(kind pgwire.StartupKind) error {
	if kind != pgwire.SSLRequest || !a.offersTLS() {
		_, err := a.conn.Write([]byte{'N'})
		return err
	}
	if _, err := a.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return a.encrypt(nil)
}

// encrypt encrypts the connection. begun are bytes of the handshake that were already read.
func (a *admin) encrypt(begun []byte) error {
	wire := &wire{Conn: a.conn, begun: begun}
	t := tls.Server(wire, a.remote.tls)
	if err := t.Handshake(); err != nil {
		return &handshakeError{err}
	}
	if begun != nil {
		if err := tlspolicy.CheckDirect(t.ConnectionState().NegotiatedProtocol); err != nil {
			return &handshakeError{err}
		}
	}
	a.conn, a.tls = t, true
	if cert, err := x509.ParseCertificate(wire.shown); err == nil {
		a.endPoint = tlsmem.EndPoint(cert)
	}
	return nil
}

// handshakeError says that a TLS handshake has failed. The admin has got an alert.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "could not accept SSL connection: " + e.err.Error() }

func (e *handshakeError) Unwrap() error { return e.err }

// wire is a connection below TLS.
type wire struct {
	net.Conn
	begun []byte // was read already
	shown []byte // the certificate that the client was shown
}

// Read returns the bytes that were read already first.
func (w *wire) Read(b []byte) (int, error) {
	if len(w.begun) > 0 {
		n := copy(b, w.begun)
		w.begun = w.begun[n:]
		return n, nil
	}
	return w.Conn.Read(b)
}

// NoteCertificate is called by the Config of package tlspolicy.
func (w *wire) NoteCertificate(der []byte) { w.shown = der }

func (a *admin) startup(m pgwire.Startup) error {
	switch opts := m.ProtocolOptions(); {
	case a.required && !a.tls:
		return pgwire.RefusalNotEncrypted.With()
	case m.Database != control.RemoteDatabase:
		return pgwire.RefusalManagementDatabase.With()
	case m.Minor > 0 || len(opts) > 0:
		if _, err := a.conn.Write(pgwire.AppendNegotiateProtocolVersion(nil, 0, opts)); err != nil {
			return err
		}
	}
	a.user = m.User
	return nil
}

// manage logs the admin in and carries one command.
func (a *admin) manage() error {
	up, err := a.open()
	if err != nil {
		return err
	}
	defer up.Close()
	if err := up.SetDeadline(time.Now().Add(verdictLimit)); err != nil {
		return err
	}
	if err := a.login(up); err != nil {
		return err
	}
	up.SetPhase(ipc.PhaseRunning)
	return a.command(up)
}

// login passes the messages of the login on.
func (a *admin) login(up link) error {
	j := &judge{admin: a, up: up}
	err := auth.RelaySCRAM(a.conn, a.endPoint, j)
	if err != nil {
		j.giveUp()
		return err
	}
	if err := a.conn.SetDeadline(time.Now().Add(commandLimit)); err != nil {
		return err
	}
	_, err = a.conn.Write(pgwire.AppendAuthenticationOK(nil))
	return err
}

// judge is the supervisor as package auth sees it.
type judge struct {
	*admin
	up   link
	open bool // a proof is due
}

// Challenge implements auth.Judge.
func (j *judge) Challenge(nonce string) (auth.Challenge, error) {
	m, err := j.ask(&ipc.RemoteLogin{User: j.user, Address: j.address, TLS: j.tls, Nonce: nonce})
	if err != nil {
		return auth.Challenge{}, err
	}
	c, ok := m.(*ipc.RemoteChallenge)
	if !ok {
		return auth.Challenge{}, fmt.Errorf("%s instead of a challenge", ipc.Name(m.Number()))
	}
	j.open = true
	return auth.Challenge{Nonce: c.Nonce, Salt: c.Salt, Iterations: c.Iterations}, nil
}

// Judge implements auth.Judge.
func (j *judge) Judge(p auth.ClientProof) ([]byte, error) {
	j.open = false
	m, err := j.ask(&ipc.RemoteProof{Binding: p.Binding, Proof: p.Proof})
	if err != nil {
		return nil, err
	}
	proven, ok := m.(*ipc.RemoteProven)
	if !ok {
		return nil, fmt.Errorf("%s instead of a verdict", ipc.Name(m.Number()))
	}
	return proven.Signature, nil
}

// giveUp waits until the supervisor has done with a login that was given up, so that the address keeps its place as long
// as if it had failed.
func (j *judge) giveUp() {
	if j.open {
		_, _ = j.ask(&ipc.RemoteProof{})
	}
}

// passOn sends a message and returns the answer. A refusal becomes an error.
func (a *admin) passOn(up link, m ipc.Message) (ipc.Message, error) {
	if err := up.Send(m); err != nil {
		return nil, err
	}
	return receiveFrom(up)
}

func (j *judge) ask(m ipc.Message) (ipc.Message, error) { return j.passOn(j.up, m) }

func receiveFrom(up link) (ipc.Message, error) {
	env, err := up.Receive()
	if err != nil {
		return nil, fmt.Errorf("link to the supervisor: %w", err)
	}
	if no, ok := env.Message.(*ipc.RemoteRefused); ok {
		return nil, &told{pgwire.Refusal(no.Refusal).WithWords(no.Words)}
	}
	return env.Message, nil
}

// told is a refusal by the supervisor, which has logged it.
type told struct{ *pgwire.Refused }

func (t *told) Unwrap() error { return t.Refused }

// command passes on one command and its answer.
func (a *admin) command(up link) error {
	typ, body, err := pgwire.ReadMessage(a.conn, control.MaxRemoteCommand)
	switch {
	case errors.As(err, new(*pgwire.LengthError)):
		return pgwire.RefusalManagementCommand.With("it is too long")
	case err != nil:
		return err
	case typ == 'X': // an admin who only wanted to know whether the password is right
		return io.EOF
	case typ != control.RemoteMessage:
		return pgwire.RefusalManagementCommand.With("it is of another protocol")
	}
	cmd, seal, err := control.ParseRemoteCommand(body)
	if err != nil {
		return pgwire.RefusalManagementCommand.With(err.Error())
	}
	if err := up.SetDeadline(time.Time{}); err != nil { // the supervisor limits every command
		return err
	}
	defer a.endIfGone(up)()
	m, err := a.passOn(up, &ipc.RemoteCommand{Version: cmd.Version, Command: cmd.Command, Args: cmd.Args, Seal: seal})
	for {
		if err != nil {
			return err
		}
		piece, ok := m.(*ipc.RemoteReply)
		if !ok {
			return fmt.Errorf("%s instead of an answer", ipc.Name(m.Number()))
		}
		if err := a.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return err
		}
		if _, err := a.conn.Write(pgwire.AppendMessage(nil, control.RemoteMessage, control.EncodeRemoteReply(piece.Seal, piece.Last, piece.Data))); err != nil {
			return err
		}
		if piece.Last {
			return nil
		}
		m, err = receiveFrom(up)
	}
}

// endIfGone closes the link when the admin is gone, so that the supervisor can give up a command that nobody waits for any
// more. stop ends the watch.
func (a *admin) endIfGone(up link) (stop func()) {
	_ = a.conn.SetReadDeadline(time.Time{}) // fails on a closed connection only, which Read finds
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := a.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			up.Close() // also after a byte: an admin has nothing more to say
		}
	}()
	return func() {
		_ = a.conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
	}
}

// end tells the admin why it is refused, and closes the connection.
func (a *admin) end(err error) {
	handshake := errors.As(err, new(*handshakeError))
	quiet := err == nil || errors.Is(err, io.EOF) && !handshake
	if !quiet && !errors.As(err, new(*told)) {
		a.log.Info("client refused", "port", "management", "address", a.address, "reason", err)
	}
	var answer []byte
	if !quiet && !handshake {
		answer = auth.AppendRefusal(nil, pgwire.SeverityFatal, a.user, err)
	}
	if len(answer) == 0 {
		return
	}
	// Closing a connection with unread bytes would send a reset, which can overtake the answer.
	_ = a.conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := a.conn.Write(answer); err != nil {
		return
	}
	if half, ok := a.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, a.conn, 64<<10)
}
