package auth

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pattern"
)

// Words for addresses.
const (
	all      = "all"
	sameHost = "samehost"
	sameNet  = "samenet"
)

// ConnType is the first field of a rule: the transports for which the rule applies.
type ConnType string

// The connection types.
const (
	Local     ConnType = "local"
	Host      ConnType = "host"
	HostSSL   ConnType = "hostssl"
	HostNoSSL ConnType = "hostnossl"
)

// Method is an authentication method, of a rule or requested by a server.
type Method string

// Methods of rules. As a result of Login, Trust means that the server requested nothing.
const (
	Trust    Method = "trust"
	Reject   Method = "reject"
	Password Method = "password"
	MD5      Method = "md5" // in a rule the same as SCRAM, as in PostgreSQL for users with a verifier of SCRAM
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
	Name     string // of a host, in lower case; with a dot before it the end of one
}

// ParseAddress reads `all`, `samehost`, `samenet`, a CIDR block or a host name. Bits outside the mask are ignored, as in
// PostgreSQL. Nothing is the address of rules for Unix sockets.
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

// Names is the second or third field of a rule: which databases or users it is for.
type Names struct {
	All      bool
	SameUser bool // the database with the user's name
	List     []string
	Patterns []*regexp.Regexp
}

// NewNames makes Names of what a file says; patterns are regular expressions.
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

// String returns where the rule stands.
func (rule Rule) String() string { return fmt.Sprintf("%s:%d", rule.File, rule.Line) }

// Facts are what a client asks for, and where it comes from.
type Facts struct {
	Database     string     // as the client named it
	RealDatabase string     // the database that Database is an alias of; empty or equal when it is none
	User         string     //
	Addr         netip.Addr // not used for Unix sockets
	UnixSocket   bool
	TLS          bool

	// Own are addresses of this machine, each with its network.
	Own []netip.Prefix
	// Hosts are the names of Addr for which a look-up gives Addr again.
	Hosts []string
}

// Need says which facts a decision lacks.
type Need int

// The facts that are only found out when a rule asks for them.
const (
	NeedNothing Need = iota
	NeedOwn
	NeedHosts
)

// Missing returns what has to be found out before Match can decide, if has is known already: the first rule that fits
// in all other respects asks for it.
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

// Match returns the first rule that applies to a client; ok is false when none does. The type of a rule counts as in
// PostgreSQL.
//
// Files of pgagroal have no rules of the type local. In such a file rules for hosts also admit clients on Unix sockets,
// as in pgagroal: those count as `::` without TLS, so that the addresses `all` and `::0/0` admit them, and nothing else.
func Match(rules []Rule, f Facts) (rule Rule, ok bool) {
	local := anyLocal(rules, f)
	for _, rule := range rules {
		if rule.fits(f, local) && rule.matchesAddress(f) {
			return rule, true
		}
	}
	return Rule{}, false
}

// anyLocal says, for a client on a Unix socket, whether there are rules for it.
func anyLocal(rules []Rule, f Facts) bool {
	return f.UnixSocket && slices.ContainsFunc(rules, func(r Rule) bool { return r.Type == Local })
}

// fits compares everything but the address.
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

// matchesDatabase lets a rule name the database or its alias. The word sameuser is about the database itself: an
// alias with the user's name leads to a database that isn't the user's.
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

// within says whether an address is in a block. A dual-stack listener reports IPv4 clients in mapped form, and a rule
// may be written in either.
func within(block netip.Prefix, addr netip.Addr) bool {
	if !block.IsValid() {
		return false
	}
	if block.Addr().Is4In6() && block.Bits() >= 96 {
		block = netip.PrefixFrom(block.Addr().Unmap(), block.Bits()-96)
	}
	return block.Contains(addr.WithZone("").Unmap())
}

// matchesHost compares the name of a client, in which case doesn't count, with that of the rule.
func (a Address) matchesHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a.Name[0] == '.' {
		return len(name) > len(a.Name) && strings.HasSuffix(name, a.Name)
	}
	return name == a.Name
}
