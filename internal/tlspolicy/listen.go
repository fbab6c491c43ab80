package tlspolicy

import (
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
	Curves     []tls.CurveID // nil: the default of the side
	Ciphers    []uint16      // of TLS 1.2; nil: Go's choice
	Protocols  []string      // of ALPN; nil: postgresql
	Now        func() time.Time
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

// identity is one certificate of ours with its own Config, and so its own tickets.
type identity struct {
	leaf   *x509.Certificate
	config *tls.Config
	keys   rotation
}

// Listen returns the Config for clients. A client's certificate is asked for if there
// are authorities; it may be missing, but not wrong. Whether it must be there is the
// matter of the rules file.
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
		// A transport that wants to know for channel binding is told here, because
		// a resumed session asks for no certificate.
		if n, ok := hello.Conn.(interface{ NoteCertificate(der []byte) }); ok {
			n.NoteCertificate(id.leaf.Raw)
		}
		return id.config, nil
	}
	return outer, nil
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

// choose prefers a certificate that has the name and that the client understands, then
// any that it understands, then the first.
func choose(all []*identity, hello *tls.ClientHelloInfo) *identity {
	nameless := *hello // the name is judged by has; a wrong one doesn't make a certificate unusable
	nameless.ServerName = ""
	understood := func(id *identity) bool { return nameless.SupportsCertificate(&id.config.Certificates[0]) == nil }
	var named []*identity
	for _, id := range all {
		if hello.ServerName != "" && id.has(hello.ServerName) {
			named = append(named, id)
		}
	}
	named = append(named, all...)
	if len(all) > 1 {
		if i := slices.IndexFunc(named, understood); i >= 0 {
			return named[i]
		}
	}
	return named[0]
}

func (id *identity) has(name string) bool {
	return checkName(id.leaf, strings.TrimSuffix(name, ".")) == nil
}

// CheckDirect refuses a client that began with TLS instead of an SSLRequest but
// didn't agree on PostgreSQL's protocol: it may be the victim of an attack that crosses
// protocols.
func CheckDirect(protocol string) error {
	if protocol != Protocol {
		return errors.New("direct SSL connection requires ALPN protocol negotiation")
	}
	return nil
}
