package config

import (
	"net/netip"
	"slices"
	"strings"
)

// All is the word that stands for every database, user, address or method.
const All = "all"

var (
	hbaTypes   = [...]string{"host", "hostssl"}
	hbaMethods = [...]string{"trust", "reject", "password", "scram-sha-256", All}
)

// ParseHBA reads the text of pgagroal_hba.conf: TYPE DATABASE USER ADDRESS METHOD. Words are
// stored in lower case except names.
func ParseHBA(file string, data []byte) ([]HBARule, []Warning, []error) {
	var (
		rules    []HBARule
		warnings []Warning
		errs     []error
	)
	for l := range textLines(data) {
		rule, extra, msg := parseHBALine(l)
		if msg != "" {
			errs = append(errs, &FileError{File: file, Line: l.no, Msg: msg})
			continue
		}
		if extra != "" {
			warnings = append(warnings, Warning{File: file, Line: l.no, Msg: "ignored behind the method: " + extra})
		}
		rules = append(rules, rule)
	}
	return rules, warnings, errs
}

// parseHBALine returns a rule and the text behind its fields, or what is wrong with the line.
func parseHBALine(l textLine) (rule HBARule, extra, msg string) {
	if l.err != nil {
		return HBARule{}, "", l.err.Error()
	}
	f := strings.Fields(l.text)
	if len(f) < 5 {
		return HBARule{}, "", "fewer than five fields; write TYPE DATABASE USER ADDRESS METHOD"
	}
	rule = HBARule{
		Type: strings.ToLower(f[0]), Database: foldAll(f[1]), User: foldAll(f[2]),
		Address: foldAll(f[3]), Method: strings.ToLower(f[4]), Line: l.no,
	}
	if len(f) > 5 && f[5][0] != '#' && f[5][0] != ';' {
		extra = strings.Join(f[5:], " ")
	}
	switch {
	case !slices.Contains(hbaTypes[:], rule.Type):
		msg = "the type " + f[0] + " is not known here; write host or hostssl"
	case rule.Method == "md5":
		msg = "the method md5 is gone; write scram-sha-256"
	case !slices.Contains(hbaMethods[:], rule.Method):
		msg = "the method " + f[4] + " is not known here; write trust, reject, password, scram-sha-256 or all"
	case rule.Address == All:
	case !strings.Contains(rule.Address, "/"):
		msg = "the address " + f[3] + " has no mask; write all, or a network such as 192.0.2.0/24 or 2001:db8::/32"
	default:
		if _, err := parsePrefix(rule.Address); err != nil {
			msg = "the address " + f[3] + " is not a network; write one such as 192.0.2.0/24 or 2001:db8::/32"
		}
	}
	return rule, extra, msg
}

func foldAll(word string) string {
	if strings.EqualFold(word, All) {
		return All
	}
	return word
}

// parsePrefix reads a network; one of IPv4-mapped IPv6 addresses becomes the IPv4 network.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// Contains says whether the rule's address covers a client's. A client on a Unix socket has none,
// the zero Addr: it is covered by all and, as in pgagroal ever since, by ::/0.
func (r HBARule) Contains(client netip.Addr) bool {
	if r.Address == All {
		return true
	}
	p, err := parsePrefix(r.Address)
	if err != nil {
		return false
	}
	if !client.IsValid() {
		client = netip.IPv6Unspecified()
		return p.Addr().Is6() && p.Bits() == 0 && p.Contains(client)
	}
	return p.Contains(client.Unmap().WithZone(""))
}
