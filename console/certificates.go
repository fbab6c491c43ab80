package console

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strconv"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// soonEnds is how long before its end a certificate counts as expiring soon.
const soonEnds = 30 * 24 * time.Hour

// certificate is a certificate of the configuration.
type certificate struct {
	scope, path string
	accessible  bool
	leaf        *x509.Certificate // nil if it can't be read
}

func newCertificate(m *ipc.ConsoleCertificate) certificate {
	c := certificate{scope: m.Scope, path: m.Path, accessible: m.Accessible}
	if leaf, err := x509.ParseCertificate([]byte(m.DER)); err == nil {
		c.leaf = leaf
	}
	return c
}

// certificates sends the certificates of the configuration. Those of C pgagroal without the
// label path are there once for each scope: for its certificate, or else for its authorities.
func (c *collector) certificates() {
	if len(c.certs) == 0 {
		return
	}
	n := map[string]int{}
	had := map[string]bool{}
	for _, x := range c.certs {
		valid := x.leaf != nil && !c.now.Before(x.leaf.NotBefore) && !c.now.After(x.leaf.NotAfter)
		switch {
		case !x.accessible:
			n["inaccessible"]++
		case x.leaf == nil:
			n["accessible"]++
			n["parse_errors"]++
		default:
			n["accessible"]++
			if c.now.After(x.leaf.NotAfter) {
				n["expired"]++
			} else if x.leaf.NotAfter.Sub(c.now) < soonEnds {
				n["expiring_soon"]++
			}
		}
		if valid {
			n["valid"]++
		}
		if !had[x.scope+"\x00"+x.path] {
			had[x.scope+"\x00"+x.path] = true
			c.flag("tls_certificate_status", valid, x.scope, x.path)
			if x.leaf != nil {
				c.add("certificate_end_timestamp_seconds", float64(x.leaf.NotAfter.Unix()), x.scope, x.path)
			}
		}
		if x.leaf != nil && !had[x.scope] {
			had[x.scope] = true
			c.certificate(x.scope, x.leaf)
		}
	}
	c.add("certificates_total", float64(len(c.certs)))
	for _, name := range []string{"accessible", "valid", "expired", "expiring_soon", "inaccessible", "parse_errors"} {
		c.add("certificates_"+name, float64(n[name]))
	}
}

func (c *collector) certificate(scope string, leaf *x509.Certificate) {
	key, keyName, bits := keyOf(leaf)
	sig, sigName := signatureOf(leaf)
	c.add("tls_certificate_expiration_seconds", float64(leaf.NotAfter.Unix()), scope)
	c.add("tls_certificate_key_size_bits", float64(bits), scope)
	c.flag("tls_certificate_is_ca", leaf.IsCA, scope)
	c.add("tls_certificate_key_type", key, scope)
	c.add("tls_certificate_signature_algorithm", sig, scope)
	const day = "2006-01-02"
	c.add("tls_certificate_info", 1, scope, leaf.Subject.String(), leaf.Issuer.String(), fmt.Sprintf("0x%x", leaf.SerialNumber),
		leaf.NotAfter.UTC().Format(day), leaf.NotBefore.UTC().Format(day), keyName, sigName, strconv.Itoa(bits))
}

// keyOf returns C pgagroal's number for the type of a key, its name and its size.
func keyOf(leaf *x509.Certificate) (number float64, name string, bits int) {
	switch k := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return 1, "RSA", k.N.BitLen()
	case *ecdsa.PublicKey:
		return 2, "ECDSA", k.Curve.Params().BitSize
	case ed25519.PublicKey:
		return 3, "Ed25519", 8 * len(k)
	}
	return 0, "unknown", 0
}

// signatures are C pgagroal's numbers for algorithms.
var signatures = map[x509.SignatureAlgorithm]float64{
	x509.SHA256WithRSA: 1, x509.SHA384WithRSA: 2, x509.SHA512WithRSA: 3, x509.SHA1WithRSA: 4,
	x509.ECDSAWithSHA256: 5, x509.ECDSAWithSHA384: 6, x509.ECDSAWithSHA512: 7, x509.PureEd25519: 8,
	x509.SHA256WithRSAPSS: 10, x509.SHA384WithRSAPSS: 11, x509.SHA512WithRSAPSS: 12,
}

func signatureOf(leaf *x509.Certificate) (float64, string) {
	if n, ok := signatures[leaf.SignatureAlgorithm]; ok {
		return n, leaf.SignatureAlgorithm.String()
	}
	return 0, "unknown"
}
