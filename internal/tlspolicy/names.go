package tlspolicy

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"
)

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// checkName compares the host of a connection with the names of a certificate, by libpq's
// rules. An address matches an alternative name that is the same address, or a DNS name
// with the same text. A name matches a DNS name. The common name counts only if there is
// no alternative name of the host's own kind.
func checkName(cert *x509.Certificate, host string) error {
	if host == "" {
		return &Refusal{"host name must be specified for a verified SSL connection"}
	}
	address, err := netip.ParseAddr(host)
	isAddress := err == nil
	var examined []string
	for _, name := range cert.DNSNames {
		if matches(name, host, isAddress) {
			return nil
		}
		examined = append(examined, name)
	}
	for _, ip := range cert.IPAddresses {
		its, ok := netip.AddrFromSlice(ip)
		if ok && isAddress && its.Unmap() == address.Unmap() {
			return nil
		}
		examined = append(examined, its.String())
	}
	sameKind := len(cert.DNSNames) > 0
	if isAddress {
		sameKind = len(cert.IPAddresses) > 0
	}
	if cn, ok := commonName(cert); ok && !sameKind {
		if matches(cn, host, isAddress) {
			return nil
		}
		examined = append(examined, cn)
	}
	return &Refusal{mismatch(examined, host)}
}

// mismatch returns libpq's text for a host that matches none of the examined names.
func mismatch(examined []string, host string) string {
	switch n := len(examined); n {
	case 0:
		return "could not get server's host name from server certificate"
	case 1:
		return fmt.Sprintf("server certificate for %q does not match host name %q", examined[0], host)
	case 2:
		return fmt.Sprintf("server certificate for %q (and 1 other name) does not match host name %q", examined[0], host)
	default:
		return fmt.Sprintf("server certificate for %q (and %d other names) does not match host name %q", examined[0], n-1, host)
	}
}

// commonName returns the first common name, as libpq does; the field of crypto/x509 has
// the last one.
func commonName(cert *x509.Certificate) (string, bool) {
	for _, n := range cert.Subject.Names {
		if s, ok := n.Value.(string); ok && n.Type.Equal(oidCommonName) {
			return s, true
		}
	}
	return "", false
}

// matches compares a name of a certificate with a host. The * of a leading "*." matches
// exactly one label, but no part of an address.
func matches(name, host string, isAddress bool) bool {
	if strings.ContainsRune(name, 0) {
		return false
	}
	if strings.EqualFold(name, host) {
		return true
	}
	suffix, wild := strings.CutPrefix(name, "*")
	if !wild || isAddress || len(suffix) < 2 || suffix[0] != '.' || len(name) > len(host) {
		return false
	}
	label, tail := host[:len(host)-len(suffix)], host[len(host)-len(suffix):]
	return strings.EqualFold(tail, suffix) && !strings.Contains(label, ".")
}
