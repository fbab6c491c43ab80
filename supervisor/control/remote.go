package control

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// Remote management. The console reads what comes at the management port, and passes each login on over a connection of
// its own:
//
//  1. RemoteLogin names the admin and the address. Admission says whether the address may try, and has the verifier.
//  2. RemoteChallenge and RemoteProof: the proof is checked here, so a console that was taken over can't log in.
//  3. RemoteCommand has a seal that only the admin can make. Until the seal was checked, nothing of the command counts.
//  4. RemoteReply are the pieces of the answer. Each has a seal, which the admin checks.
//
// A console that was taken over can drop logins and commands, read the answers, which have no secrets, and lie about the
// address. It can't make, change or repeat a command.

const (
	// MaxRemotes is how many logins and commands of admins there are at a time. They have places of their own, so that
	// they can't lock out the operator on this machine.
	MaxRemotes = 32
	// failureDelay is the shortest time that a failed login keeps its place and waits for its answer. Together with
	// MaxRemotes it limits how many passwords can be tried in a second, by whomever.
	failureDelay = time.Second
	// remoteReplyTimeout is how long an admin may take to read the whole answer.
	remoteReplyTimeout = 30 * time.Second
)

// Admission is what a login of an admin depends on.
type Admission struct {
	// Verifier checks the password. That of an unknown admin fails with every one.
	Verifier auth.Verifier
	// EndPoints are those of pgagroal's certificates.
	EndPoints [][]byte
	// Limit is how long a login may take, Delay how long a failed one waits for its answer.
	Limit, Delay time.Duration
	// Refused says why the login is refused before any proof, nil if it isn't. Reason is for the log.
	Refused *pgwire.Refused
	Reason  string
}

// Admit returns the Admission of a login.
type Admit func(context.Context, *ipc.RemoteLogin) (Admission, error)

// ServeRemote answers admins on the connections that it receives, until ctx ends. It receives one only while fewer than
// MaxRemotes are served.
func ServeRemote(ctx context.Context, conns <-chan *ipc.Conn, admit Admit, sup Supervisor, opt Options) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{sup: sup, opt: opt.withDefaults(), self: uint32(os.Geteuid()), ctx: ctx, conns: map[*ipc.Conn]*client{}}
	for range MaxRemotes {
		s.clients.Go(func() { s.receiveRemotes(conns, admit) })
	}
	<-ctx.Done()
	s.close()
	s.clients.Wait()
}

func (s *server) receiveRemotes(conns <-chan *ipc.Conn, admit Admit) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case conn := <-conns:
			s.addRemote(conn)
			if err := logline.Guarded(s.opt.Log, func() error { return s.remote(conn, admit) }); err != nil {
				s.opt.Log.Debug("remote management: a connection has ended", "error", err)
			}
			s.remove(conn)
		}
	}
}

func (s *server) addRemote(conn *ipc.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = &client{}
}

// remote serves one login and its command.
func (s *server) remote(conn *ipc.Conn, admit Admit) error {
	login, a, err := s.receiveLogin(conn, admit)
	switch {
	case err != nil && login != nil: // the loop is late, or pgagroal ends
		return s.refuseLogin(conn, login, a, fmt.Errorf("it can't be decided: %w", err))
	case err != nil:
		s.keepPlace(failureDelay)
		return err
	}
	seal, err := s.login(conn, login, a)
	if err != nil {
		return s.refuseLogin(conn, login, a, err)
	}
	return s.sealed(conn, login, seal)
}

// receiveLogin receives the beginning of a login, and finds out what it depends on.
func (s *server) receiveLogin(conn *ipc.Conn, admit Admit) (*ipc.RemoteLogin, Admission, error) {
	s.setDeadline(conn, s.opt.RequestTimeout, false)
	m, err := conn.Receive()
	if err != nil {
		return nil, Admission{}, err
	}
	login, ok := m.Message.(*ipc.RemoteLogin)
	if !ok {
		return nil, Admission{}, errors.New("no login")
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.opt.RequestTimeout)
	defer cancel()
	a, err := admit(ctx, login)
	return login, a, err
}

// keepPlace keeps the place of a failed login, so that nobody can have more of them than MaxRemotes in that time.
func (s *server) keepPlace(d time.Duration) {
	delay := time.NewTimer(d)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-s.ctx.Done():
	}
}

// login has the admin prove its password.
func (s *server) login(conn *ipc.Conn, login *ipc.RemoteLogin, a Admission) (auth.Seal, error) {
	if a.Refused != nil {
		return auth.Seal{}, a.Refused
	}
	s.setDeadline(conn, a.Limit, false)
	c, ok := a.Verifier.Challenge(login.Nonce)
	if !ok {
		return auth.Seal{}, pgwire.RefusalMalformedSCRAM.With()
	}
	if err := conn.Send(&ipc.RemoteChallenge{Nonce: c.Nonce, Salt: c.Salt, Iterations: c.Iterations}); err != nil {
		return auth.Seal{}, err
	}
	m, err := conn.Receive()
	if err != nil {
		return auth.Seal{}, err
	}
	proof, ok := m.Message.(*ipc.RemoteProof)
	if !ok {
		return auth.Seal{}, errors.New("no proof")
	}
	signature, seal, err := a.Verifier.Judge(login.Nonce, c, auth.ClientProof{Binding: proof.Binding, Proof: proof.Proof}, a.EndPoints)
	if err != nil {
		return auth.Seal{}, err
	}
	if err := conn.Send(&ipc.RemoteProven{Signature: signature}); err != nil {
		return auth.Seal{}, err
	}
	conn.SetPhase(ipc.PhaseRunning)
	return seal, nil
}

// refuseLogin answers a login that has failed, when its time has come. A login that was given up keeps its place as long,
// or guessing would only cost connections.
func (s *server) refuseLogin(conn *ipc.Conn, login *ipc.RemoteLogin, a Admission, err error) error {
	var refused *pgwire.Refused
	switch {
	case errors.Is(err, auth.ErrBadPassword):
		refused = pgwire.RefusalBadPassword.With(login.User)
	case !errors.As(err, &refused): // the connection has ended
	}
	s.opt.Log.Warn("login of an admin failed", "admin", cut(login.User), "client", cut(login.Address), "tls", login.TLS, "reason", reason(a, err))
	s.keepPlace(max(a.Delay, failureDelay))
	if refused == nil {
		return nil
	}
	s.setDeadline(conn, s.opt.ReplyTimeout, true)
	return conn.Send(&ipc.RemoteRefused{Refusal: uint8(refused.Refusal), Words: refused.Words()})
}

func reason(a Admission, err error) string {
	if a.Reason != "" {
		return a.Reason
	}
	return err.Error()
}

// sealed receives the admin's command and answers it.
func (s *server) sealed(conn *ipc.Conn, login *ipc.RemoteLogin, seal auth.Seal) error {
	s.setDeadline(conn, s.opt.RequestTimeout, false)
	m, err := conn.Receive()
	if err != nil {
		return err
	}
	req, ok := m.Message.(*ipc.RemoteCommand)
	if !ok {
		return errors.New("no command")
	}
	text := control.RemoteCommand{Version: req.Version, Command: req.Command, Args: req.Args}.Sealed()
	if !hmac.Equal(req.Seal, seal.Request(text)) {
		s.opt.Log.Error("a command of an admin was changed on its way", "admin", cut(login.User), "client", cut(login.Address))
		return conn.Send(&ipc.RemoteRefused{Refusal: uint8(pgwire.RefusalManagementCommand), Words: []string{"its seal is wrong"}})
	}
	s.setDeadline(conn, remoteReplyTimeout, true)
	there, stop := s.whileThere(conn)
	doc := s.answer(there, &ipc.ControlRequest{Version: req.Version, Command: req.Command, Args: req.Args}, peer{kin: Admin, admin: login.User, client: login.Address})
	stop()
	s.setDeadline(conn, remoteReplyTimeout, true)
	number := 0
	return pieces(doc, func(piece []byte, last bool) error {
		mac := seal.Reply(number, last, piece)
		number++
		if err := conn.Send(&ipc.RemoteReply{Data: piece, Last: last, Seal: mac}); err != nil {
			return fmt.Errorf("answer %s: %w", req.Command, err)
		}
		return nil
	})
}
