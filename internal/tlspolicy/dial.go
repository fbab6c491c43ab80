package tlspolicy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
)

// Mode says how a server is spoken to, in libpq's words.
type Mode uint8

// Modes, from the weakest on.
const (
	Off Mode = iota
	Prefer
	Require
	VerifyCA
	VerifyFull
)

var modeNames = [...]string{Off: "off", Prefer: "prefer", Require: "require", VerifyCA: "verify-ca", VerifyFull: "verify-full"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode reads a mode. C pgagroal's on means require here, since on never goes back
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

// serverCurves cost no second round with PostgreSQL, whose default is P-256 alone. X25519
// isn't among them, because crypto/tls would try it first, in whichever order they are.
var serverCurves = []tls.CurveID{tls.CurveP256, tls.CurveP384}

// Dial returns the Config for a server at host. As in libpq, authorities are used
// by Require too, if there are any. crypto/tls's own check is off: it refuses certificates
// that have a common name only.
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
		// The server's list of authorities is a hint that libpq ignores as well.
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
