package tlspolicy

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Refusal says why the certificate of a peer was refused, in the words of libpq and
// OpenSSL.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return r.Reason }

// RefusesCertificate tells a Refusal from other errors of a handshake.
func (*Refusal) RefusesCertificate() bool { return true }

// unverified returns libpq's text, followed by OpenSSL's reason.
func unverified(reason string) error {
	return &Refusal{"SSL error: certificate verify failed: " + reason}
}

// list is a revocation list with an index of its serial numbers.
type list struct {
	*x509.RevocationList
	revoked map[string]bool // by serial number
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

// check verifies the certificates that a peer has shown, the leaf first.
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

// reason returns OpenSSL's text for an error of crypto/x509.
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

// checkRevocation checks that no certificate of the chain is revoked. Each certificate,
// the root included, needs a valid list of its issuer, as in PostgreSQL.
func (v *verifier) checkRevocation(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if why := v.revocation(cert, issuer, now); why != "" {
			return unverified(why)
		}
	}
	return nil
}

// revocation returns why cert isn't known to be good, or nothing. Of several valid lists
// of the issuer the newest counts, as with OpenSSL.
func (v *verifier) revocation(cert, issuer *x509.Certificate, now time.Time) string {
	why := "unable to get certificate CRL"
	var newest *list
	for i := range v.lists {
		l := &v.lists[i]
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
		case newest == nil || l.ThisUpdate.After(newest.ThisUpdate):
			newest = l
		}
	}
	switch {
	case newest == nil:
		return why
	case newest.revoked[string(cert.SerialNumber.Bytes())]:
		return "certificate revoked"
	}
	return ""
}

// critical reports whether a list has a critical extension. None is supported, and one of
// them says that the list is incomplete.
func critical(crl *x509.RevocationList) bool {
	for _, e := range crl.Extensions {
		if e.Critical {
			return true
		}
	}
	return false
}
