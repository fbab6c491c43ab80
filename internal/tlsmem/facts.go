package tlsmem

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// Facts is what can be known of a session whose handshake is complete.
type Facts struct {
	Version     uint16 // tls.VersionTLS12 or later
	CipherSuite uint16
	Protocol    string // chosen by ALPN; empty if none was
	ServerName  string // that the client asked for
	Resumed     bool
	// Peer is the certificate that the peer has shown, or nil. Whether it was verified
	// is the Config's business.
	Peer *x509.Certificate
	// PeerHash is the SHA-256 of Peer's DER form.
	PeerHash [sha256.Size]byte
	// EndPoint is the value of tls-server-end-point (RFC 5929): a hash of the server's
	// certificate, whichever side we are. It is nil when the certificate's signature
	// names no hash (Ed25519), and when our own was not noted: then no -PLUS is offered.
	EndPoint []byte
}

// Facts returns what is known of the session; the handshake must be complete. For
// the server's role, EndPoint needs a Config that notes its certificate: see
// NoteCertificate in the doc of internal/tlspolicy.
func (c *Conn) Facts() Facts {
	s := c.tls.ConnectionState()
	f := Facts{
		Version: s.Version, CipherSuite: s.CipherSuite, Protocol: s.NegotiatedProtocol,
		ServerName: s.ServerName, Resumed: s.DidResume,
	}
	if len(s.PeerCertificates) > 0 {
		f.Peer = s.PeerCertificates[0]
		f.PeerHash = sha256.Sum256(f.Peer.Raw)
	}
	server := f.Peer
	if c.isServer {
		server = nil
		if own, err := x509.ParseCertificate(c.t.ownChain); err == nil {
			server = own
		}
	}
	if server != nil {
		f.EndPoint = EndPoint(server)
	}
	return f
}

// EndPoint returns the tls-server-end-point value of a server's certificate: its hash
// by the hash of its signature, and by SHA-256 instead of MD5 and SHA-1. It is nil for
// Ed25519, whose signatures name no hash, and for RSA-PSS, which libpq before 16 can't
// bind to: both sides then do without channel binding.
func EndPoint(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.ECDSAWithSHA256:
		h := sha256.Sum256(cert.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	}
	return nil
}
