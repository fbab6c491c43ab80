package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
)

// Mode says whether a connection to a server uses TLS and what is verified, as libpq's
// sslmode does.
type Mode uint8

// Modes, the weakest first.
const (
	Off Mode = iota
	Prefer
	Require
	VerifyCA
	VerifyFull
)

var modeNames = [...]string{Off: "off", Prefer: "prefer", Require: "require", VerifyCA: "verify-ca", VerifyFull: "verify-full"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode reads a mode. C pgagroal's on becomes Require, because on doesn't fall back
// to clear text.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "on", "true", "yes", "1":
		return Require, nil
	case "false", "no", "0", "disable":
		return Off, nil
	}
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return Off, errors.New("not one of off, prefer, require, verify-ca, verify-full")
}

// serverCurves avoid a second round trip with PostgreSQL, which accepts only P-256 by
// default. X25519 isn't among them, because crypto/tls would try it first, whatever the
// order of this list.
var serverCurves = []tls.CurveID{tls.CurveP256, tls.CurveP384}

// Dial returns the Config for connections to a server at host. As in libpq, Require also
// checks the server's certificate if there are authorities. The Config replaces the check
// of crypto/tls, which refuses certificates that have only a common name.
func (m Material) Dial(mode Mode, host string, opts Options) (*tls.Config, error) {
	if mode == Off {
		return nil, errors.New("no TLS to this server")
	}
	v, err := m.verifier(x509.ExtKeyUsageServerAuth, opts.Now)
	if err != nil {
		return nil, err
	}
	if mode >= VerifyCA && v.roots == nil {
		return nil, errors.New("root certificate file is needed to verify the server's certificate; set tls_ca_file or use another mode")
	}
	if mode == VerifyFull && host == "" {
		return nil, errors.New("host name must be specified for a verified SSL connection")
	}
	c := opts.base(serverCurves)
	c.InsecureSkipVerify = true
	if _, err := netip.ParseAddr(host); err != nil {
		c.ServerName = host
	}
	if len(m.Pairs) > 0 {
		cert, err := m.Pairs[0].certificate()
		if err != nil {
			return nil, err
		}
		// libpq ignores the server's list of acceptable authorities, too.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if mode >= Require && v.roots != nil {
			if err := v.check(s.PeerCertificates); err != nil {
				return err
			}
		}
		if mode == VerifyFull {
			return checkName(s.PeerCertificates[0], host)
		}
		return nil
	}
	return c, nil
}
