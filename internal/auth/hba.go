package auth

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pattern"
)

// Words of the address field.
const (
	all      = "all"
	sameHost = "samehost"
	sameNet  = "samenet"
)

// ConnType is the first field of a rule: the kinds of connections that the rule applies to.
type ConnType string

// The connection types.
const (
	Local     ConnType = "local"
	Host      ConnType = "host"
	HostSSL   ConnType = "hostssl"
	HostNoSSL ConnType = "hostnossl"
)

// Method is an authentication method, which a rule names or a server requests.
type Method string

// Methods of rules. When Login returns Trust, the server requested nothing.
const (
	Trust    Method = "trust"
	Reject   Method = "reject"
	Password Method = "password"
	MD5      Method = "md5" // in a rule the same as SCRAM; so it is in PostgreSQL for users with a SCRAM verifier
	SCRAM    Method = "scram-sha-256"
	Cert     Method = "cert"
	All      Method = "all" // whatever the server asks for
)

// Address is the fourth field of a rule; the zero Address matches nothing.
type Address struct {
	All      bool
	SameHost bool // an address of this machine
	SameNet  bool // an address in a network of this machine
	Prefix   netip.Prefix
	Name     string // host name in lower case, or the end of host names if it begins with a dot
}

// ParseAddress reads `all`, `samehost`, `samenet`, a CIDR block or a host name. As in PostgreSQL, bits outside the mask
// don't count. An empty string gives the zero Address, for rules of type local.
func ParseAddress(s string) (Address, error) {
	switch word := strings.ToLower(s); {
	case word == "":
		return Address{}, nil
	case word == all:
		return Address{All: true}, nil
	case word == sameHost:
		return Address{SameHost: true}, nil
	case word == sameNet:
		return Address{SameNet: true}, nil
	case strings.ContainsAny(word, "/:") || strings.Trim(word, "0123456789.") == "":
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return Address{}, fmt.Errorf("address %q is neither a word, a CIDR block nor the name of a host", s)
		}
		return Address{Prefix: p}, nil
	default:
		return Address{Name: word}, nil
	}
}

// Names is the second or third field of a rule: the databases or users that the rule applies to.
type Names struct {
	All      bool
	SameUser bool // the database that has the user's name
	List     []string
	Patterns []*regexp.Regexp
}

// NewNames returns Names; patterns are regular expressions as in PostgreSQL.
func NewNames(everyone, sameUser bool, list, patterns []string) (Names, error) {
	n := Names{All: everyone, SameUser: sameUser, List: list}
	for _, p := range patterns {
		re, err := pattern.Compile(p)
		if err != nil {
			return Names{}, err
		}
		n.Patterns = append(n.Patterns, re)
	}
	return n, nil
}

// Rule is one line of pgagroal_hba.conf. Types and methods are in lower case.
type Rule struct {
	Type     ConnType
	Database Names
	User     Names
	Address  Address // zero for Local
	Method   Method

	ClientCert string // verify-ca, verify-full, or empty
	ClientName string // CN, DN, or empty
	Map        string // of pgagroal_ident.conf, or empty

	File string
	Line int // in the file, from 1
}

// String returns the file and line of the rule.
func (rule Rule) String() string { return fmt.Sprintf("%s:%d", rule.File, rule.Line) }

// Facts say what a client asks for, and where it comes from.
type Facts struct {
	Database     string // as the client named it
	RealDatabase string // the database that Database is an alias of; if it is no alias, empty or equal
	User         string
	Addr         netip.Addr // not used for Unix sockets
	UnixSocket   bool
	TLS          bool

	// Own are addresses of this machine, each with its network.
	Own []netip.Prefix
	// Hosts are the host names of Addr, but only those that resolve to Addr.
	Hosts []string
}

// Need names facts that a decision needs.
type Need int

// Facts that are found out only when a rule needs them.
const (
	NeedNothing Need = iota
	NeedOwn
	NeedHosts
)

// Missing returns the facts that have to be found out before Match can decide, where has are known already: those of
// the first rule that could match and needs any.
func Missing(rules []Rule, f Facts, has ...Need) Need {
	local := anyLocal(rules, f)
	for _, rule := range rules {
		if !rule.fits(f, local) {
			continue
		}
		need := rule.Address.needs()
		if need != NeedNothing && !f.UnixSocket && !slices.Contains(has, need) {
			return need
		}
		if rule.matchesAddress(f) {
			return NeedNothing
		}
	}
	return NeedNothing
}

// Match returns the first rule that applies to a client; ok is false if none does. Types of rules mean the same as in
// PostgreSQL.
//
// C pgagroal's files have no rules of type local. In a file without such rules, rules for hosts also apply to clients on
// Unix sockets, as in C pgagroal: these clients count as `::` without TLS, so only the addresses `all` and `::0/0` match.
func Match(rules []Rule, f Facts) (rule Rule, ok bool) {
	local := anyLocal(rules, f)
	for _, rule := range rules {
		if rule.fits(f, local) && rule.matchesAddress(f) {
			return rule, true
		}
	}
	return Rule{}, false
}

// anyLocal reports whether the client is on a Unix socket and the file has rules of type local.
func anyLocal(rules []Rule, f Facts) bool {
	return f.UnixSocket && slices.ContainsFunc(rules, func(r Rule) bool { return r.Type == Local })
}

// fits reports whether the rule applies to the client, except for the address.
func (rule Rule) fits(f Facts, local bool) bool {
	switch rule.Type {
	case Local:
		if !f.UnixSocket {
			return false
		}
	case HostSSL:
		if !f.TLS {
			return false
		}
	case HostNoSSL:
		if f.TLS {
			return false
		}
	}
	if local && rule.Type != Local {
		return false
	}
	return rule.matchesDatabase(f) && rule.User.covers(f.User)
}

// matchesDatabase accepts rules that name the database or its alias. The word sameuser compares the database itself,
// because an alias with the user's name can lead to a database that isn't the user's.
func (rule Rule) matchesDatabase(f Facts) bool {
	real := f.RealDatabase
	if real == "" {
		real = f.Database
	}
	return rule.Database.covers(f.Database) || rule.Database.covers(real) || rule.Database.SameUser && real == f.User
}

func (n Names) covers(name string) bool {
	return n.All || slices.Contains(n.List, name) ||
		slices.ContainsFunc(n.Patterns, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

func (a Address) needs() Need {
	switch {
	case a.SameHost || a.SameNet:
		return NeedOwn
	case a.Name != "":
		return NeedHosts
	}
	return NeedNothing
}

func (rule Rule) matchesAddress(f Facts) bool {
	a := rule.Address
	switch {
	case rule.Type == Local || a.All:
		return true
	case f.UnixSocket:
		return a.Prefix.IsValid() && a.Prefix.Bits() == 0 && a.Prefix.Addr().Is6()
	case a.SameHost:
		return slices.ContainsFunc(f.Own, func(p netip.Prefix) bool { return within(netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), f.Addr) })
	case a.SameNet:
		return slices.ContainsFunc(f.Own, func(p netip.Prefix) bool { return within(p, f.Addr) })
	case a.Name != "":
		return slices.ContainsFunc(f.Hosts, a.matchesHost)
	}
	return within(a.Prefix, f.Addr)
}

// within reports whether an address is in a block. Both may be IPv4 in IPv6-mapped form: a dual-stack listener reports
// IPv4 clients like that, and a rule may be written so.
func within(block netip.Prefix, addr netip.Addr) bool {
	if !block.IsValid() {
		return false
	}
	if block.Addr().Is4In6() && block.Bits() >= 96 {
		block = netip.PrefixFrom(block.Addr().Unmap(), block.Bits()-96)
	}
	return block.Contains(addr.WithZone("").Unmap())
}

// matchesHost compares the host name of a client, without regard to case, with that of the rule.
func (a Address) matchesHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a.Name[0] == '.' {
		return len(name) > len(a.Name) && strings.HasSuffix(name, a.Name)
	}
	return name == a.Name
}
