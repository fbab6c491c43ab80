package worker

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

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
		return "", pgwire.RefusalNoEntry.With(host, l.user, l.requested)
	}
	if rule.Method == auth.Reject {
		return "", &refusal{pgwire.RefusalRejected.With(host, l.user, l.requested), "rejected by " + rule.String()}
	}
	if err := s.checkCertificate(l.user, &rule); err != nil {
		return "", err
	}
	switch {
	case s.cfg.looksUp(l.user):
		return storedMethod(rule.Method), nil
	case s.cfg.AllowUnknownUsers && !s.cfg.checked(l.user):
		return auth.All, nil
	case (rule.Method == auth.Trust || rule.Method == auth.Cert) && !s.cfg.known[l.user]:
		if !s.cfg.AllowUnknownUsers {
			return "", &refusal{pgwire.RefusalUnknownUser.With(l.user), errUnknownUser.Error()}
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
		return &refusal{pgwire.RefusalNoCertificate.With(), "no client certificate, which " + rule.String() + " asks for"}
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
	return &refusal{pgwire.RefusalCertificate.With(user), fmt.Sprintf("the certificate is for %q, by %s", names, rule)}
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
	if s.cfg.looksUp(l.user) {
		return s.authenticateStored(l, method)
	}
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
