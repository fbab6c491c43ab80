package tlspolicy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

var versionNames = map[string]uint16{"tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13}

// ParseVersion reads TLSv1.2 or TLSv1.3, as in PostgreSQL's ssl_min_protocol_version.
func ParseVersion(s string) (uint16, error) {
	if v, ok := versionNames[strings.ToLower(s)]; ok {
		return v, nil
	}
	return 0, fmt.Errorf("%q is not TLSv1.2 or TLSv1.3", s)
}

var curveNames = map[string]tls.CurveID{
	"x25519": tls.X25519, "prime256v1": tls.CurveP256, "p-256": tls.CurveP256, "secp256r1": tls.CurveP256,
	"secp384r1": tls.CurveP384, "p-384": tls.CurveP384, "secp521r1": tls.CurveP521, "p-521": tls.CurveP521,
	"x25519mlkem768": tls.X25519MLKEM768,
}

// ParseCurves reads names like prime256v1:X25519, as in PostgreSQL's ssl_groups. Their
// order has no effect, because crypto/tls has its own.
func ParseCurves(s string) ([]tls.CurveID, error) {
	var list []tls.CurveID
	for name := range strings.SplitSeq(s, ":") {
		curve, ok := curveNames[strings.ToLower(strings.TrimSpace(name))]
		if !ok {
			return nil, fmt.Errorf("unknown curve %q; known are X25519, prime256v1, secp384r1, secp521r1, X25519MLKEM768", name)
		}
		list = append(list, curve)
	}
	return list, nil
}

// cipherNames has OpenSSL's names of the ciphers for TLS 1.2 that crypto/tls considers
// safe.
var cipherNames = map[string]uint16{
	"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ParseCiphers reads names of ciphers for TLS 1.2, OpenSSL's or those of the standard,
// separated by colons. The ciphers of TLS 1.3 can't be chosen.
func ParseCiphers(s string) ([]uint16, error) {
	var list []uint16
	for name := range strings.SplitSeq(s, ":") {
		id, ok := cipherNames[strings.ToUpper(strings.TrimSpace(name))]
		for _, known := range tls.CipherSuites() {
			if !ok && known.Name == strings.TrimSpace(name) && known.SupportedVersions[0] <= tls.VersionTLS12 {
				id, ok = known.ID, true
			}
		}
		if !ok {
			return nil, unknownCipher(strings.TrimSpace(name))
		}
		list = append(list, id)
	}
	return list, nil
}

func unknownCipher(name string) error {
	for _, known := range tls.CipherSuites() {
		if known.Name == name { // the others are those of TLS 1.2
			return fmt.Errorf("%s is a cipher of TLS 1.3, all of which are always on; leave it out", name)
		}
	}
	known := strings.Join(slices.Sorted(maps.Keys(cipherNames)), ", ")
	return fmt.Errorf("unknown cipher %q for TLS 1.2; name each of those you want: %s", name, known)
}

// ParseOptions reads the keys of a configuration, each of which may be empty.
func ParseOptions(version, curves, ciphers string) (Options, error) {
	var o Options
	var err error
	if version != "" {
		if o.MinVersion, err = ParseVersion(version); err != nil {
			return o, fmt.Errorf("tls_min_protocol_version: %w", err)
		}
	}
	if curves != "" {
		if o.Curves, err = ParseCurves(curves); err != nil {
			return o, fmt.Errorf("tls_curves: %w", err)
		}
	}
	if ciphers == "" {
		return o, nil
	}
	if o.Ciphers, err = ParseCiphers(ciphers); err != nil {
		return o, fmt.Errorf("tls_ciphers: %w", err)
	}
	if o.MinVersion > tls.VersionTLS12 {
		return o, errors.New("tls_ciphers: they are for TLS 1.2, and tls_min_protocol_version excludes that; leave one of the two out")
	}
	return o, nil
}
