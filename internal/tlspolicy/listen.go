package tlspolicy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"
)

// Protocol is PostgreSQL's name in ALPN.
const Protocol = "postgresql"

// Options are what an operator may choose; the zero value is the default.
type Options struct {
	MinVersion uint16        // 0: TLS 1.2
	Curves     []tls.CurveID // nil: clientCurves or serverCurves
	Ciphers    []uint16      // of TLS 1.2; nil: Go's choice
	Protocols  []string      // of ALPN; nil: postgresql
	// ClientCert refuses clients that show no certificate, if there are authorities.
	ClientCert bool
	Now        func() time.Time // nil: time.Now
}

// clientCurves leaves out X25519MLKEM768, which more than doubles the cost of a login.
var clientCurves = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}

func (o Options) base(curves []tls.CurveID) *tls.Config {
	c := &tls.Config{
		MinVersion: max(o.MinVersion, tls.VersionTLS12), CipherSuites: o.Ciphers,
		CurvePreferences: o.Curves, NextProtos: o.Protocols, Time: o.Now,
		DynamicRecordSizingDisabled: true,
	}
	if c.CurvePreferences == nil {
		c.CurvePreferences = curves
	}
	if c.NextProtos == nil {
		c.NextProtos = []string{Protocol}
	}
	return c
}

// identity is a certificate that pgagroal shows to clients. It has a Config of its own,
// and therefore tickets of its own.
type identity struct {
	leaf   *x509.Certificate
	config *tls.Config
	keys   rotation
}

// Listen returns the Config for connections of clients. If there are authorities, a client
// is asked for a certificate. It may show none, but not one that fails the check. Whether
// a client must show one is decided by pgagroal_hba.conf.
func (m Material) Listen(opts Options, tickets Tickets) (*tls.Config, error) {
	if len(m.Pairs) == 0 {
		return nil, errors.New("TLS needs a certificate and its private key")
	}
	v, err := m.verifier(x509.ExtKeyUsageClientAuth, opts.Now)
	if err != nil {
		return nil, err
	}
	var identities []*identity
	for _, p := range m.Pairs {
		id, err := m.identity(p, opts, tickets, v)
		if err != nil {
			return nil, err
		}
		identities = append(identities, id)
	}
	outer := opts.base(clientCurves)
	outer.Certificates = identities[0].config.Certificates
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		id := choose(identities, hello)
		id.keys.turn()
		// Channel binding needs the certificate. GetCertificate couldn't report it,
		// because crypto/tls doesn't call that for a resumed session.
		if n, ok := hello.Conn.(interface{ NoteCertificate(der []byte) }); ok {
			n.NoteCertificate(id.leaf.Raw)
		}
		return id.config, nil
	}
	return outer, nil
}

// Quick reports whether each handshake of a client is so cheap that an event loop may do it
// itself: all signatures are of the fast kinds, no curve is P-521, and clients show no
// certificates, whose chains would have to be verified. P-384 is slower than the other curves,
// but not as slow as a signature of RSA.
func (m Material) Quick(opts Options) bool {
	return len(m.CA) == 0 && !slices.Contains(opts.Curves, tls.CurveP521) && !slices.ContainsFunc(m.Pairs, func(p Pair) bool {
		cert, err := p.certificate()
		if err != nil {
			return true
		}
		switch key := cert.PrivateKey.(type) {
		case ed25519.PrivateKey:
			return false
		case *ecdsa.PrivateKey:
			return key.Curve != elliptic.P256()
		}
		return true
	})
}

func (m Material) identity(p Pair, opts Options, tickets Tickets, v *verifier) (*identity, error) {
	cert, err := p.certificate()
	if err != nil {
		return nil, err
	}
	c := opts.base(clientCurves)
	c.Certificates = []tls.Certificate{cert}
	c.SessionTicketsDisabled = len(tickets.Seed) == 0
	if v.roots != nil {
		c.ClientAuth, c.ClientCAs = tls.RequestClientCert, v.roots
		if opts.ClientCert {
			c.ClientAuth = tls.RequireAnyClientCert
		}
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return v.check(s.PeerCertificates)
		}
	}
	id := &identity{leaf: cert.Leaf, config: c}
	id.keys.tickets, id.keys.config, id.keys.day = tickets, c, -1
	id.keys.digest, id.keys.leaf = m.Digest(), sha256.Sum256(cert.Leaf.Raw)
	id.keys.turn()
	return id, nil
}

// choose prefers a certificate that has the name and that the client supports, then any
// that the client supports, then the first that has the name, then the first.
func choose(all []*identity, hello *tls.ClientHelloInfo) *identity {
	nameless := *hello // without the name, SupportsCertificate checks only what the client supports
	nameless.ServerName = ""
	supported := func(id *identity) bool { return nameless.SupportsCertificate(&id.config.Certificates[0]) == nil }
	var named []*identity
	for _, id := range all {
		if hello.ServerName != "" && id.has(hello.ServerName) {
			named = append(named, id)
		}
	}
	named = append(named, all...)
	if len(all) > 1 {
		if i := slices.IndexFunc(named, supported); i >= 0 {
			return named[i]
		}
	}
	return named[0]
}

func (id *identity) has(name string) bool {
	return checkName(id.leaf, strings.TrimSuffix(name, ".")) == nil
}

// CheckDirect refuses a client that began with TLS instead of an SSLRequest and hasn't
// negotiated PostgreSQL's protocol: an attacker may have redirected to this port a client
// that speaks another protocol.
func CheckDirect(protocol string) error {
	if protocol != Protocol {
		return errors.New("direct SSL connection requires ALPN protocol negotiation")
	}
	return nil
}
