package tlsmem

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// Facts describes a session whose handshake is complete.
type Facts struct {
	Version     uint16 // tls.VersionTLS12 or later
	CipherSuite uint16
	Protocol    string // chosen by ALPN; empty if none was
	ServerName  string // the name that the client asked for
	Resumed     bool
	// Peer is the certificate that the peer has shown, or nil. The Config decides whether
	// it was verified.
	Peer *x509.Certificate
	// PeerHash is the SHA-256 of Peer's DER form.
	PeerHash [sha256.Size]byte
	// EndPoint is what the function EndPoint returns for the server's certificate, on
	// both sides of the connection. It is also nil on a server whose Config didn't note
	// its certificate. Without it SCRAM offers no channel binding.
	EndPoint []byte
}

// Session returns the version of TLS and whether the session was resumed, for less than Facts.
func (c *Conn) Session() (version uint16, resumed bool) {
	s := c.tls.ConnectionState()
	return s.Version, s.DidResume
}

// Facts returns the facts of the session; the handshake must be complete. On a server,
// EndPoint needs a Config that calls NoteCertificate: see package tlspolicy.
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
		if own, err := x509.ParseCertificate(c.t.ownCert); err == nil {
			server = own
		}
	}
	if server != nil {
		f.EndPoint = EndPoint(server)
	}
	return f
}

// EndPoint returns the channel binding tls-server-end-point (RFC 5929) of a server's
// certificate: its hash, with the hash function of its signature, or with SHA-256 instead
// of MD5 and SHA-1. EndPoint returns nil for Ed25519, whose signatures name no hash
// function, and for RSA-PSS, which old releases of libpq can't bind to (15.2, for
// instance). Both sides then do without channel binding.
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
