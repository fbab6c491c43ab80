package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// all is the word that stands for every address.
const all = "all"

// ConnType is the first field of a rule: the transports for which the rule applies.
type ConnType string

// The connection types. pgagroal's files don't accept hostnossl, but it costs nothing here.
const (
	Host      ConnType = "host"
	HostSSL   ConnType = "hostssl"
	HostNoSSL ConnType = "hostnossl"
)

// Method is an authentication method, of a rule or requested by a server.
type Method string

// Methods of rules, except MD5, which only servers request. As a result of Login, Trust means that the server
// requested nothing.
const (
	Trust    Method = "trust"
	Reject   Method = "reject"
	Password Method = "password"
	SCRAM    Method = "scram-sha-256"
	All      Method = "all" // whatever the server asks for
	MD5      Method = "md5"
)

// Address is the fourth field of a rule; the zero Address matches nothing.
type Address struct {
	All    bool
	Prefix netip.Prefix
}

// ParseAddress reads `all` in any case or a CIDR block. Bits outside the mask are ignored, as in PostgreSQL.
func ParseAddress(s string) (Address, error) {
	if strings.EqualFold(s, all) {
		return Address{All: true}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return Address{}, fmt.Errorf("address %q is neither %q nor a CIDR block", s, all)
	}
	return Address{Prefix: p}, nil
}

// Names is the second or third field of a rule: which databases or users it is for.
type Names struct {
	All      bool
	SameUser bool // the database with the user's name
	List     []string
}

// Rule is one line of pgagroal_hba.conf. Types and methods are in lower case.
type Rule struct {
	Type     ConnType
	Database Names
	User     Names
	Address  Address
	Method   Method
	Line     int // in the file, from 1
}

// Request is what a client asks for, and where it comes from.
type Request struct {
	Database     string     // as the client named it
	RealDatabase string     // the database that Database is an alias of; empty or equal when it is none
	User         string     //
	Addr         netip.Addr // not used for Unix sockets
	UnixSocket   bool
	TLS          bool
}

// Match returns the first rule that applies to r; ok is false when none does.
//
// The type of a rule counts as in PostgreSQL with one exception. A client without TLS whose database, user and
// address fit a hostssl rule isn't passed on to later rules but refused: the rule is returned with method Reject.
// pgagroal refuses such a client as soon as any hostssl rule names its database and user, whatever the order and
// the address, so a file written for it may well end in a wide `host` line that was never meant for plaintext.
// A host rule that stands before the hostssl rule does admit the client, which pgagroal would refuse.
//
// Clients on Unix sockets count as `::` without TLS, as in pgagroal: the addresses `all` and `::0/0` admit them,
// nothing else does.
func Match(rules []Rule, r Request) (rule Rule, ok bool) {
	for _, rule := range rules {
		if !rule.matchesDatabase(r) || !rule.User.covers(r.User) || !rule.Address.matches(r) {
			continue
		}
		if rule.Type == HostNoSSL && r.TLS {
			continue
		}
		if rule.Type == HostSSL && !r.TLS {
			rule.Method = Reject
		}
		return rule, true
	}
	return Rule{}, false
}

// matchesDatabase lets a rule name the database or its alias. The word sameuser is about the database itself: an
// alias with the user's name leads to a database that isn't the user's.
func (rule Rule) matchesDatabase(r Request) bool {
	real := r.RealDatabase
	if real == "" {
		real = r.Database
	}
	return rule.Database.covers(r.Database) || rule.Database.covers(real) || rule.Database.SameUser && real == r.User
}

func (n Names) covers(name string) bool { return n.All || slices.Contains(n.List, name) }

func (a Address) matches(r Request) bool {
	if a.All {
		return true
	}
	if !a.Prefix.IsValid() {
		return false
	}
	if r.UnixSocket {
		return a.Prefix.Bits() == 0 && a.Prefix.Addr().Is6()
	}
	// A dual-stack listener reports IPv4 clients in mapped form; a rule may be written in either.
	addr, block := r.Addr.WithZone("").Unmap(), a.Prefix
	if block.Addr().Is4In6() && block.Bits() >= 96 {
		block = netip.PrefixFrom(block.Addr().Unmap(), block.Bits()-96)
	}
	return block.Contains(addr)
}
