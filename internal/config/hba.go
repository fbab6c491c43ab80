package config

import (
	"fmt"
	"slices"
	"strings"
)

// Words of pgagroal_hba.conf that this package compares with.
const (
	typeLocal   = "local"
	typeHostSSL = "hostssl"
	methodCert  = "cert"
	methodMD5   = "md5"
)

var (
	hbaTypes   = [...]string{typeLocal, "host", typeHostSSL, "hostnossl"}
	hbaMethods = [...]string{"trust", "reject", "password", methodMD5, "scram-sha-256", methodCert, All}
)

// otherTypes maps types of pg_hba.conf that aren't accepted here to what to write instead.
var otherTypes = map[string]string{
	"hostgssenc":   "delete the line: pgagroal doesn't encrypt with GSSAPI",
	"hostnogssenc": "write host: pgagroal doesn't encrypt with GSSAPI, so it means the same",
}

// otherMethods maps methods of pg_hba.conf that aren't accepted here to what to write instead.
var otherMethods = map[string]string{
	"peer":   "pgagroal doesn't ask who owns the other end of a Unix socket; write scram-sha-256",
	"ident":  "pgagroal asks no ident server; write scram-sha-256, or cert with map=",
	"gss":    "pgagroal doesn't speak GSSAPI; write scram-sha-256",
	"sspi":   "pgagroal doesn't speak SSPI; write scram-sha-256",
	"pam":    "write all, and leave users that PAM knows out of pgagroal_users.conf: the server asks them",
	"ldap":   "write all, and leave users that LDAP knows out of pgagroal_users.conf: the server asks them",
	"radius": "write all, and leave users that RADIUS knows out of pgagroal_users.conf: the server asks them",
	"bsd":    "write scram-sha-256",
}

// Parts of errors that say what to write.
const (
	hbaForm      = "write TYPE DATABASE USER ADDRESS METHOD"
	localForm    = "write local DATABASE USER METHOD"
	knownTypes   = "write local, host, hostssl or hostnossl"
	knownMethods = "write trust, reject, password, md5, scram-sha-256, cert or all"
)

// ParseHBA reads the text of pgagroal_hba.conf and the files that it refers to:
// TYPE DATABASE USER [ADDRESS] METHOD [OPTION=VALUE]... It stores all words except names in lower case.
func ParseHBA(file string, data []byte) ([]HBARule, []error) {
	return parseHBA(file, data, plainReader)
}

func parseHBA(file string, data []byte, read fileReader) ([]HBARule, []error) {
	var rules []HBARule
	r := ruleReader{read: read, syntax: hbaSyntax, rule: func(_ *ruleReader, l ruleLine) *FileError {
		rule, fail := parseHBALine(l)
		if fail == nil && len(rules) >= maxRules {
			return l.fields[0].fail("more than %d rules; put several names or networks into one", maxRules)
		}
		if fail == nil {
			rules = append(rules, rule)
		}
		return fail
	}}
	r.text(file, data, 0)
	return rules, r.errs
}

func parseHBALine(l ruleLine) (HBARule, *FileError) {
	f, rule := l.fields, HBARule{File: l.file, Line: l.no}
	var fail *FileError
	if rule.Type, fail = hbaType(f[0]); fail != nil {
		return HBARule{}, fail
	}
	switch {
	case rule.Type == typeLocal && len(f) < 4:
		return HBARule{}, &FileError{Msg: "fewer than four fields; " + localForm}
	case rule.Type != typeLocal && len(f) < 5:
		return HBARule{}, &FileError{Msg: "fewer than five fields; " + hbaForm}
	}
	if rule.Database, fail = hbaDatabase.read(f[1].words); fail != nil {
		return HBARule{}, fail
	}
	if rule.User, fail = hbaUser.read(f[2].words); fail != nil {
		return HBARule{}, fail
	}
	rest := f[3:]
	if rule.Type != typeLocal {
		if rule.Address, rest, fail = hbaAddress(rest); fail != nil {
			return HBARule{}, fail
		}
	}
	if len(rest) == 0 {
		return HBARule{}, &FileError{Msg: "no method behind the mask; " + hbaForm}
	}
	if len(rest) > 1 && rule.Type == typeLocal && slices.Contains(hbaMethods[:], strings.ToLower(rest[1].words[0].text)) {
		return HBARule{}, rest[0].fail("a line of the type local has no address; %s", localForm)
	}
	if fail = rule.method(rest[0]); fail != nil {
		return HBARule{}, fail
	}
	return rule, rule.options(rest[0], rest[1:])
}

func hbaType(f field) (string, *FileError) {
	text, ok := f.sole()
	word := strings.ToLower(text)
	remedy := otherTypes[word]
	switch {
	case !ok:
		return "", f.fail("the type is one word without quotes; %s", knownTypes)
	case slices.Contains(hbaTypes[:], word):
		return word, nil
	case remedy == "":
		remedy = knownTypes
	}
	return "", f.fail("the type %s is not known here; %s", text, remedy)
}

func (r *HBARule) method(f field) *FileError {
	text, ok := f.sole()
	word := strings.ToLower(text)
	remedy := otherMethods[word]
	switch {
	case !ok:
		return f.fail("the method is one word without quotes; %s", knownMethods)
	case r.Type == typeLocal && (isAddress(f) || strings.Contains(text, "/")):
		return f.fail("a line of the type local has no address; %s", localForm)
	case word == methodCert && r.Type != typeHostSSL:
		return f.fail("the method cert needs TLS; write the type hostssl, or another method")
	case slices.Contains(hbaMethods[:], word):
		r.Method = word
		return nil
	case remedy == "":
		remedy = knownMethods
	}
	return f.fail("the method %s is not known here; %s", text, remedy)
}

// options reads the options after the method. It refuses unknown ones, because an option makes a rule stricter.
func (r *HBARule) options(method field, list []field) *FileError {
	for _, f := range list {
		text, ok := f.sole()
		name, value, equals := strings.Cut(text, "=")
		switch {
		case !ok && len(f.words) > 1:
			return f.words[1].fail("an option has one value; write a blank between options")
		case !ok || !equals:
			return f.fail("%s follows the method and is no option; delete it, or put # before a comment and double quotes around a name with blanks", text)
		case value == "":
			return f.fail("the option %s has no value; write %s=VALUE", name, name)
		}
		if msg := r.option(name, value); msg != "" {
			return f.fail("%s", msg)
		}
	}
	if r.Method == methodCert && r.ClientCert == verifyCA {
		return method.fail("cert compares a name, and clientcert=verify-ca none; write clientcert=verify-full, or leave the option out")
	}
	return nil
}

// Values of options.
const (
	verifyCA   = "verify-ca"
	verifyFull = "verify-full"
)

// option stores one option, or returns why it is refused.
func (r *HBARule) option(name, value string) string {
	field, known := map[string]*string{"clientcert": &r.ClientCert, "clientname": &r.ClientName, "map": &r.Map}[name]
	switch {
	case !known:
		return fmt.Sprintf("the option %s is not known here; write clientcert, clientname or map, or delete it", name)
	case *field != "":
		return fmt.Sprintf("the option %s is there twice; write it once", name)
	case name == "map" && r.Method != methodCert:
		return "map is for the method cert; delete it, or write that method"
	case name != "map" && r.Type != typeHostSSL:
		return fmt.Sprintf("the option %s is about certificates of clients; write the type hostssl, or delete it", name)
	case name == "clientcert" && value != verifyCA && value != verifyFull:
		return fmt.Sprintf("clientcert can't be %s; write verify-ca or verify-full", value)
	case name == "clientname" && value != "CN" && value != "DN" && value != "SAN":
		return fmt.Sprintf("clientname can't be %s; write CN, DN or SAN", value)
	}
	*field = value
	return ""
}
