package auth

import (
	"net/netip"
	"slices"
	"testing"
)

func address(t *testing.T, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func named(names ...string) Names { return Names{List: names} }

func TestAddressesMatchAsCIDR(t *testing.T) {
	for _, tc := range []struct {
		block, client string
		want          bool
	}{
		{"all", "10.0.0.1", true},
		{"ALL", "2001:db8::1", true},
		{"0.0.0.0/0", "203.0.113.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::0/0", "2001:db8::1", true},
		{"::0/0", "10.0.0.1", false},
		{"10.1.0.0/0", "203.0.113.9", true},
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.0/9", "10.127.0.1", true},
		{"10.0.0.0/9", "10.128.0.1", false},
		{"192.168.1.4/30", "192.168.1.7", true},
		{"192.168.1.4/30", "192.168.1.8", false},
		{"192.168.1.77/24", "192.168.1.3", true},
		{"192.168.1.77/32", "192.168.1.77", true},
		{"192.168.1.77/32", "192.168.1.78", false},
		{"10.0.0.0/8", "::ffff:10.2.3.4", true},
		{"::ffff:10.0.0.0/104", "10.2.3.4", true},
		{"::ffff:10.0.0.0/104", "::ffff:11.2.3.4", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"::1/128", "::1", true},
		{"::1/128", "::2", false},
	} {
		rules := []Rule{{Type: Host, Database: Names{All: true}, User: Names{All: true}, Address: address(t, tc.block), Method: Trust}}
		_, ok := Match(rules, Facts{Database: "d", User: "u", Addr: netip.MustParseAddr(tc.client)})
		if ok != tc.want {
			t.Errorf("%s in %s: %v, want %v", tc.client, tc.block, ok, tc.want)
		}
	}
}

func TestBadAddressesAreRefused(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/x", "::/129"} {
		if a, err := ParseAddress(s); err == nil {
			t.Errorf("%q: %+v", s, a)
		}
	}
	if _, ok := Match([]Rule{{Database: Names{All: true}, User: Names{All: true}}}, Facts{Addr: netip.MustParseAddr("::1")}); ok {
		t.Error("a rule without an address matched")
	}
}

func TestFirstRuleThatFitsWins(t *testing.T) {
	rules := []Rule{
		{Type: Host, Database: named("sales"), User: named("alice"), Address: address(t, "10.0.0.0/8"), Method: Trust, Line: 1},
		{Type: Host, Database: named("sales"), User: Names{All: true}, Address: address(t, "all"), Method: Reject, Line: 2},
		{Type: HostSSL, Database: Names{All: true}, User: named("bob"), Address: address(t, "10.0.0.0/8"), Method: SCRAM, Line: 3},
		{Type: HostNoSSL, Database: Names{All: true}, User: named("bob"), Address: address(t, "all"), Method: Password, Line: 4},
		{Type: Host, Database: named("hr"), User: named("carol"), Address: address(t, "all"), Method: All, Line: 5},
		{Type: Host, Database: Names{All: true}, User: named("carol"), Address: address(t, "192.0.2.0/24"), Method: SCRAM, Line: 6},
		{Type: Host, Database: Names{SameUser: true, List: []string{"tea", "tee"}}, User: named("erin", "frank"), Address: address(t, "all"), Method: Trust, Line: 7},
	}
	for name, tc := range map[string]struct {
		req    Facts
		line   int // 0: no rule
		method Method
	}{
		"exact":                                {Facts{Database: "sales", User: "alice", Addr: netip.MustParseAddr("10.1.1.1")}, 1, Trust},
		"address differs":                      {Facts{Database: "sales", User: "alice", Addr: netip.MustParseAddr("11.1.1.1")}, 2, Reject},
		"TLS client, host rule":                {Facts{Database: "sales", User: "alice", Addr: netip.MustParseAddr("10.1.1.1"), TLS: true}, 1, Trust},
		"names are case-sensitive":             {Facts{Database: "Sales", User: "alice", Addr: netip.MustParseAddr("10.1.1.1")}, 0, ""},
		"hostssl with TLS":                     {Facts{Database: "x", User: "bob", Addr: netip.MustParseAddr("10.1.1.1"), TLS: true}, 3, SCRAM},
		"hostssl without TLS isn't meant":      {Facts{Database: "x", User: "bob", Addr: netip.MustParseAddr("10.1.1.1")}, 4, Password},
		"hostssl elsewhere doesn't refuse":     {Facts{Database: "x", User: "bob", Addr: netip.MustParseAddr("11.1.1.1")}, 4, Password},
		"hostnossl with TLS isn't meant":       {Facts{Database: "x", User: "bob", Addr: netip.MustParseAddr("11.1.1.1"), TLS: true}, 0, ""},
		"alias of a ruled database":            {Facts{Database: "people", RealDatabase: "hr", User: "carol", Addr: netip.MustParseAddr("::1")}, 5, All},
		"alias of another database":            {Facts{Database: "people", RealDatabase: "x", User: "carol", Addr: netip.MustParseAddr("::1")}, 0, ""},
		"a real name doesn't match its alias":  {Facts{Database: "x", RealDatabase: "x", User: "carol", Addr: netip.MustParseAddr("192.0.2.1")}, 6, SCRAM},
		"no rule for the user":                 {Facts{Database: "hr", User: "dave", Addr: netip.MustParseAddr("::1")}, 0, ""},
		"second of a list":                     {Facts{Database: "tee", User: "frank", UnixSocket: true}, 7, Trust},
		"database of the user's name":          {Facts{Database: "erin", User: "erin", UnixSocket: true}, 7, Trust},
		"alias of the user's name":             {Facts{Database: "erin", RealDatabase: "x", User: "erin", UnixSocket: true}, 0, ""},
		"alias of the user's database":         {Facts{Database: "x", RealDatabase: "erin", User: "erin", UnixSocket: true}, 7, Trust},
		"another user's database":              {Facts{Database: "frank", User: "erin", UnixSocket: true}, 0, ""},
		"no list has the pair":                 {Facts{Database: "tea", User: "grace", UnixSocket: true}, 0, ""},
		"Unix socket counts as without TLS":    {Facts{Database: "sales", User: "x", UnixSocket: true}, 2, Reject},
		"Unix socket isn't in an IPv4 network": {Facts{Database: "sales", User: "alice", UnixSocket: true}, 2, Reject},
	} {
		rule, ok := Match(rules, tc.req)
		if ok != (tc.line != 0) || rule.Line != tc.line || rule.Method != tc.method {
			t.Errorf("%s: line %d, method %q, %v; want line %d, method %q", name, rule.Line, rule.Method, ok, tc.line, tc.method)
		}
	}
	if rules[2].Method != SCRAM {
		t.Error("Match changed a rule")
	}
}

func TestUnixSocketsAreAdmittedByAllAndTheEmptyIPv6Mask(t *testing.T) {
	for block, want := range map[string]bool{
		"all": true, "::0/0": true, "0.0.0.0/0": false, "127.0.0.0/8": false, "::1/128": false, "::/8": false,
	} {
		rules := []Rule{{Type: Host, Database: Names{All: true}, User: Names{All: true}, Address: address(t, block), Method: Trust}}
		if _, ok := Match(rules, Facts{Database: "d", User: "u", UnixSocket: true}); ok != want {
			t.Errorf("%s: %v, want %v", block, ok, want)
		}
	}
}

// The facts for a rule that names a host, samehost or samenet are asked for only if this rule could decide.
func TestFactsAreAskedForOnlyIfARuleCouldDecideByThem(t *testing.T) {
	everybody := Names{All: true}
	rules := []Rule{
		{Type: Host, Database: named("a"), User: everybody, Address: address(t, "samehost"), Method: Trust, Line: 1},
		{Type: Host, Database: named("a"), User: everybody, Address: address(t, ".Example.com"), Method: Trust, Line: 2},
		{Type: Host, Database: named("b"), User: everybody, Address: address(t, "db1.example.com"), Method: Trust, Line: 3},
		{Type: Host, Database: named("b"), User: everybody, Address: address(t, "samenet"), Method: Trust, Line: 4},
		{Type: Host, Database: everybody, User: everybody, Address: address(t, "10.0.0.0/8"), Method: Trust, Line: 5},
		{Type: HostSSL, Database: everybody, User: everybody, Address: address(t, "x.test"), Method: Trust, Line: 6},
	}
	own := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/16")}
	for name, tc := range map[string]struct {
		facts Facts
		needs []Need
		line  int // 0: no rule
	}{
		"this machine":              {Facts{Database: "a", Addr: netip.MustParseAddr("10.1.2.3"), Own: own}, []Need{NeedOwn}, 1},
		"mapped":                    {Facts{Database: "a", Addr: netip.MustParseAddr("::ffff:10.1.2.3"), Own: own}, []Need{NeedOwn}, 1},
		"its neighbour":             {Facts{Database: "a", Addr: netip.MustParseAddr("10.1.2.4"), Own: own}, []Need{NeedOwn, NeedHosts}, 5},
		"end of a name":             {Facts{Database: "a", Addr: netip.MustParseAddr("192.0.2.1"), Own: own, Hosts: []string{"X.EXAMPLE.com."}}, []Need{NeedOwn, NeedHosts}, 2},
		"the end alone":             {Facts{Database: "a", Addr: netip.MustParseAddr("192.0.2.1"), Hosts: []string{"example.com", "badexample.com"}}, []Need{NeedOwn, NeedHosts}, 0},
		"name":                      {Facts{Database: "b", Addr: netip.MustParseAddr("192.0.2.1"), Hosts: []string{"y", "DB1.example.com"}}, []Need{NeedHosts}, 3},
		"longer name":               {Facts{Database: "b", Addr: netip.MustParseAddr("192.0.2.1"), Hosts: []string{"x.db1.example.com"}}, []Need{NeedHosts, NeedOwn}, 0},
		"network of this machine":   {Facts{Database: "b", Addr: netip.MustParseAddr("10.1.9.9"), Own: own}, []Need{NeedHosts, NeedOwn}, 4},
		"decided by the address":    {Facts{Database: "c", Addr: netip.MustParseAddr("10.9.9.9")}, nil, 5},
		"hostssl without TLS":       {Facts{Database: "c", Addr: netip.MustParseAddr("192.0.2.1")}, nil, 0},
		"hostssl with TLS":          {Facts{Database: "c", Addr: netip.MustParseAddr("192.0.2.1"), TLS: true, Hosts: []string{"x.test"}}, []Need{NeedHosts}, 6},
		"Unix sockets have no name": {Facts{Database: "b", UnixSocket: true}, nil, 0},
	} {
		var asked []Need
		for need := Missing(rules, tc.facts); need != NeedNothing && len(asked) < 3; need = Missing(rules, withOnly(tc.facts, asked), asked...) {
			asked = append(asked, need)
		}
		if !slices.Equal(asked, tc.needs) {
			t.Errorf("%s: asks for %v, want %v", name, asked, tc.needs)
		}
		if rule, ok := Match(rules, tc.facts); rule.Line != tc.line || ok != (tc.line > 0) {
			t.Errorf("%s: line %d", name, rule.Line)
		}
	}
}

// withOnly leaves out the facts that were not asked for.
func withOnly(f Facts, asked []Need) Facts {
	if !slices.Contains(asked, NeedOwn) {
		f.Own = nil
	}
	if !slices.Contains(asked, NeedHosts) {
		f.Hosts = nil
	}
	return f
}

func TestLocalRulesAreForUnixSocketsAlone(t *testing.T) {
	everybody := Names{All: true}
	rules := []Rule{
		{Type: Host, Database: everybody, User: everybody, Address: address(t, "all"), Method: Trust, Line: 1},
		{Type: Local, Database: named("a"), User: everybody, Method: Trust, Line: 2},
	}
	for _, tc := range []struct {
		facts Facts
		line  int
	}{
		{Facts{Database: "a", UnixSocket: true}, 2},
		{Facts{Database: "b", UnixSocket: true}, 0},
		{Facts{Database: "a", Addr: netip.MustParseAddr("::1")}, 1},
	} {
		if rule, _ := Match(rules, tc.facts); rule.Line != tc.line {
			t.Errorf("%+v: line %d, want %d", tc.facts, rule.Line, tc.line)
		}
	}
}
