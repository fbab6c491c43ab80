package config

import (
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

var (
	hbaTypes   = [...]string{"host", "hostssl"}
	hbaMethods = [...]string{"trust", "reject", "password", "scram-sha-256", All}
)

// otherTypes maps the first words of pg_hba.conf lines that aren't accepted here to what
// to write instead.
var otherTypes = map[string]string{
	"local":             "write host with the address all: it covers clients on the Unix socket",
	"hostnossl":         "write host",
	"hostgssenc":        "delete the line: pgagroal doesn't encrypt with GSSAPI",
	"hostnogssenc":      "write host",
	"include":           "write the lines of that file here",
	"include_if_exists": "write the lines of that file here",
	"include_dir":       "write the lines of those files here",
}

// hbaForm tells the operator the form of a line.
const hbaForm = "write TYPE DATABASE USER ADDRESS METHOD"

// ParseHBA reads the text of pgagroal_hba.conf: TYPE DATABASE USER ADDRESS METHOD. Words are
// stored in lower case except names.
func ParseHBA(file string, data []byte) ([]HBARule, []error) {
	var (
		rules []HBARule
		errs  []error
	)
	for l := range textLines(data) {
		rule, fail := parseHBALine(l)
		if fail != nil {
			errs = append(errs, inFile(file, l, fail))
			continue
		}
		rules = append(rules, rule)
	}
	return rules, errs
}

func parseHBALine(l textLine) (HBARule, *FileError) {
	if l.err != nil {
		return HBARule{}, l.fail()
	}
	f, fail := splitFields(l, ",")
	if fail != nil {
		return HBARule{}, fail
	}
	rule := HBARule{Line: l.no}
	if rule.Type, fail = hbaType(f[0]); fail != nil {
		return HBARule{}, fail
	}
	if len(f) < 5 {
		return HBARule{}, &FileError{Msg: "fewer than five fields; " + hbaForm}
	}
	if rule.Database, fail = hbaDatabase.read(f[1].words); fail != nil {
		return HBARule{}, fail
	}
	if rule.User, fail = userName.read(f[2].words); fail != nil {
		return HBARule{}, fail
	}
	address, rest, fail := hbaAddress(f[3:])
	if fail != nil {
		return HBARule{}, fail
	}
	rule.Address = address
	if len(rest) == 0 {
		return HBARule{}, &FileError{Msg: "no method behind the mask; " + hbaForm}
	}
	rule.Method, fail = hbaMethod(rest)
	return rule, fail
}

func hbaType(f field) (string, *FileError) {
	text, ok := f.sole()
	word := strings.ToLower(text)
	remedy := otherTypes[word]
	switch {
	case !ok:
		return "", &FileError{Column: f.column(), Msg: "the type is one word without quotes; write host or hostssl"}
	case slices.Contains(hbaTypes[:], word):
		return word, nil
	case remedy == "":
		remedy = "write host or hostssl"
	}
	return "", &FileError{Column: f.column(), Msg: "the type " + text + " is not known here; " + remedy}
}

// hbaMethod reads the method. Only a comment may follow: PostgreSQL's options make a rule stricter, and ignoring them
// would let more clients in.
func hbaMethod(f []field) (string, *FileError) {
	text, ok := f[0].sole()
	word := strings.ToLower(text)
	const known = "write trust, reject, password, scram-sha-256 or all"
	switch {
	case !ok:
		return "", &FileError{Column: f[0].column(), Msg: "the method is one word without quotes; " + known}
	case word == "md5":
		return "", &FileError{Column: f[0].column(), Msg: "the method md5 is gone; write scram-sha-256"}
	case !slices.Contains(hbaMethods[:], word):
		return "", &FileError{Column: f[0].column(), Msg: "the method " + text + " is not known here; " + known}
	case len(f) > 1:
		return "", &FileError{
			Column: f[1].column(),
			Msg:    "more text behind the method, and options aren't known here; delete it, or put # before a comment and double quotes around a name with blanks",
		}
	}
	return word, nil
}

// hbaAddress reads the address and returns the fields after it. As in PostgreSQL, a network is one field, or two
// fields: an address and a mask.
func hbaAddress(f []field) (address string, rest []field, fail *FileError) {
	text, ok := f[0].sole()
	wrong := func(msg string) (string, []field, *FileError) {
		return "", nil, &FileError{Column: f[0].column(), Msg: "the address " + text + " " + msg}
	}
	const such = "write all, or a network such as 192.0.2.0/24 or 2001:db8::/32"
	addr, err := netip.ParseAddr(text)
	single := err == nil && addr.Zone() == ""
	switch {
	case len(f[0].words) > 1:
		return wrong("is the first of a list; write a line for each network")
	case !ok:
		return wrong("is in quotes; " + such + " without them")
	case strings.EqualFold(text, All):
		return All, f[1:], nil
	case single && len(f) > 1 && isAddress(f[1]):
		p, ok := maskedPrefix(addr, f[1])
		if !ok {
			return wrong("and the mask " + f[1].words[0].text + " are no network; write one such as 192.0.2.0 255.255.255.0")
		}
		return p.String(), f[2:], nil
	case single:
		return wrong("has no mask; write " + netip.PrefixFrom(addr, addr.BitLen()).String() + " for this address alone, or a network such as 192.0.2.0/24")
	case text == "samehost" || text == "samenet":
		return wrong("isn't known here; write the networks, a line for each, such as 192.0.2.0/24 or 2001:db8::/32")
	case !strings.Contains(text, "/"):
		return wrong("is the name of a host, which isn't looked up here; " + such)
	}
	if _, err := netip.ParsePrefix(text); err != nil {
		return wrong("is not a network; write one such as 192.0.2.0/24 or 2001:db8::/32")
	}
	return text, f[1:], nil
}

func isAddress(f field) bool {
	text, ok := f.sole()
	_, err := netip.ParseAddr(text)
	return ok && err == nil
}

// maskedPrefix returns the network of an address and a mask. Both must be of the same family, and the one-bits
// of the mask must be contiguous.
func maskedPrefix(addr netip.Addr, f field) (netip.Prefix, bool) {
	mask, err := netip.ParseAddr(f.words[0].text)
	if err != nil || mask.Zone() != "" || mask.BitLen() != addr.BitLen() {
		return netip.Prefix{}, false
	}
	ones := 0
	for _, b := range mask.AsSlice() {
		ones += bits.OnesCount8(b)
	}
	allOnes, _ := netip.AddrFromSlice(slices.Repeat([]byte{0xff}, mask.BitLen()/8))
	run := netip.PrefixFrom(allOnes, ones).Masked().Addr()
	return netip.PrefixFrom(addr, ones), run == mask
}
