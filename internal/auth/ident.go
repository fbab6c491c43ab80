package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"regexp"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pattern"
)

// IdentLine is one line of pgagroal_ident.conf.
type IdentLine struct {
	Map    string
	system nameTest
	// If the field of the user contains \1, which stands for the first group of system, it is in template, and user
	// isn't used.
	user     nameTest
	template string
}

// nameTest accepts any name, the names that a regular expression matches, or one name.
type nameTest struct {
	any     bool
	pattern *regexp.Regexp
	name    string
}

// NewIdentLine returns the line with these fields. anyUser says that user is the word all.
func NewIdentLine(mapName, system, user string, anyUser bool) (IdentLine, error) {
	l := IdentLine{Map: mapName}
	var err error
	if l.system, err = newNameTest(system); err != nil {
		return IdentLine{}, err
	}
	switch {
	case anyUser:
		l.user.any = true
	case l.system.pattern != nil && !strings.HasPrefix(user, "/") && strings.Contains(user, `\1`):
		l.template = user
	default:
		l.user, err = newNameTest(user)
	}
	return l, err
}

func newNameTest(text string) (nameTest, error) {
	expression, ok := strings.CutPrefix(text, "/")
	if !ok {
		return nameTest{name: text}, nil
	}
	re, err := pattern.Compile(expression)
	return nameTest{pattern: re}, err
}

func (n nameTest) matches(name string) bool {
	if n.pattern != nil {
		return n.pattern.MatchString(name)
	}
	return n.any || n.name == name
}

// VerifyFull is the value of clientcert that compares names as well.
const VerifyFull = "verify-full"

// NamesOf returns the names that a client's certificate is for, as clientname says: the common name, the distinguished
// name in the form of RFC 2253 for DN, or the DNS names and e-mail addresses for SAN.
func NamesOf(cert *x509.Certificate, clientName string) []string {
	switch clientName {
	case "DN":
		var rdn pkix.RDNSequence
		if rest, err := asn1.Unmarshal(cert.RawSubject, &rdn); err != nil || len(rest) > 0 || len(rdn) == 0 {
			return nil
		}
		return []string{rdn.String()}
	case "SAN":
		return slices.Concat(cert.DNSNames, cert.EmailAddresses)
	}
	if cn := cert.Subject.CommonName; cn != "" && !strings.Contains(cn, "\x00") {
		return []string{cn}
	}
	return nil
}

// MayBe reports whether a client whose certificate names system may log in as user. Without a map, both names must be
// equal.
func MayBe(lines []IdentLine, mapName, system, user string) bool {
	if mapName == "" {
		return system == user
	}
	for _, l := range lines {
		if l.Map == mapName && l.admits(system, user) {
			return true
		}
	}
	return false
}

func (l IdentLine) admits(system, user string) bool {
	if l.template == "" {
		return l.system.matches(system) && l.user.matches(user)
	}
	groups := l.system.pattern.FindStringSubmatch(system)
	return len(groups) > 1 && user == strings.Replace(l.template, `\1`, groups[1], 1)
}
