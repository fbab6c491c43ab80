package tlspolicy

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Refusal is why a peer's certificate was refused, in the words of libpq and OpenSSL.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// RefusesCertificate tells this error from others of a handshake.
func (*Refusal) RefusesCertificate() bool { return true }

// unverified is what libpq says, followed by OpenSSL's reason.
func unverified(reason string) error {
	return &Refusal{"SSL error: certificate verify failed: " + reason}
}

// list is a revocation list, ready to be asked.
type list struct {
	*x509.RevocationList
	revoked map[string]bool // serial numbers
}

// lists parses the revocation lists; nil if there are none.
func (m Material) lists() ([]list, error) {
	if m.CRL == nil {
		return nil, nil
	}
	var all []list
	for _, der := range pemOrDER(m.CRL, "X509 CRL") {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("certificate revocation list: %w", err)
		}
		l := list{crl, make(map[string]bool, len(crl.RevokedCertificateEntries))}
		for _, e := range crl.RevokedCertificateEntries {
			l.revoked[string(e.SerialNumber.Bytes())] = true
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate revocation list found")
	}
	return all, nil
}

// verifier checks chains against authorities and revocation lists.
type verifier struct {
	roots *x509.CertPool
	lists []list
	usage x509.ExtKeyUsage
	now   func() time.Time
}

func (m Material) verifier(usage x509.ExtKeyUsage, now func() time.Time) (*verifier, error) {
	roots, err := m.roots()
	if err != nil {
		return nil, err
	}
	lists, err := m.lists()
	if err != nil {
		return nil, err
	}
	if lists != nil && roots == nil {
		return nil, errors.New("a certificate revocation list needs root certificates; set tls_ca_file")
	}
	if now == nil {
		now = time.Now
	}
	return &verifier{roots: roots, lists: lists, usage: usage, now: now}, nil
}

// check verifies what a peer has shown, the leaf first.
func (v *verifier) check(shown []*x509.Certificate) error {
	if len(shown) == 0 {
		return &Refusal{"certificate could not be obtained"}
	}
	opts := x509.VerifyOptions{
		Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: v.now(),
		KeyUsages: []x509.ExtKeyUsage{v.usage},
	}
	for _, c := range shown[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := shown[0].Verify(opts)
	if err != nil {
		return unverified(reason(err, shown, opts.CurrentTime))
	}
	if v.lists == nil {
		return nil
	}
	for _, chain := range chains {
		if err = v.checkRevocation(chain, opts.CurrentTime); err == nil {
			return nil
		}
	}
	return err
}

// reason is OpenSSL's text for what crypto/x509 found.
func reason(err error, shown []*x509.Certificate, now time.Time) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid):
		switch {
		case invalid.Reason == x509.Expired && invalid.Cert != nil && now.Before(invalid.Cert.NotBefore):
			return "certificate is not yet valid"
		case invalid.Reason == x509.Expired:
			return "certificate has expired"
		case invalid.Reason == x509.IncompatibleUsage:
			return "unsuitable certificate purpose"
		case invalid.Reason == x509.NotAuthorizedToSign:
			return "invalid CA certificate"
		case invalid.Reason == x509.TooManyIntermediates:
			return "path length constraint exceeded"
		}
	case errors.As(err, &unknown):
		switch {
		case selfSigned(shown[0]):
			return "self-signed certificate"
		case selfSigned(shown[len(shown)-1]):
			return "self-signed certificate in certificate chain"
		}
		return "unable to get local issuer certificate"
	}
	return err.Error()
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// checkRevocation wants a valid list for every certificate of the chain, the root's
// own included, as PostgreSQL does.
func (v *verifier) checkRevocation(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if why := v.revocation(cert, issuer, now); why != "" {
			return unverified(why)
		}
	}
	return nil
}

// revocation returns why cert isn't known to be good, or nothing.
func (v *verifier) revocation(cert, issuer *x509.Certificate, now time.Time) string {
	why := "unable to get certificate CRL"
	for _, l := range v.lists {
		switch {
		case !bytes.Equal(l.RawIssuer, cert.RawIssuer):
		case l.CheckSignatureFrom(issuer) != nil:
			why = "CRL signature failure"
		case now.Before(l.ThisUpdate):
			why = "CRL is not yet valid"
		case !l.NextUpdate.IsZero() && now.After(l.NextUpdate):
			why = "CRL has expired"
		case critical(l.RevocationList):
			why = "unhandled critical CRL extension"
		case l.revoked[string(cert.SerialNumber.Bytes())]:
			return "certificate revoked"
		default:
			return ""
		}
	}
	return why
}

// critical says that a list has rules which nobody here understands: it may be partial.
func critical(crl *x509.RevocationList) bool {
	for _, e := range crl.Extensions {
		if e.Critical {
			return true
		}
	}
	return false
}
