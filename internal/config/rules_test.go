package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHBAFileReads(t *testing.T) {
	rules, warnings, errs := ParseHBA("hba", []byte("# c\nHOST ALL all 127.0.0.1/32 Trust\n\thostssl\tdb\tAlice  2001:db8::/32 SCRAM-SHA-256 # c\nhost db bob all all more\n"))
	if len(errs) > 0 || len(warnings) != 1 || warnings[0].Line != 4 {
		t.Fatalf("%v %v", warnings, errs)
	}
	want := []HBARule{
		{"host", "all", "all", "127.0.0.1/32", "trust", 2},
		{"hostssl", "db", "Alice", "2001:db8::/32", "scram-sha-256", 3},
		{"host", "db", "bob", "all", "all", 4},
	}
	if d := cmp.Diff(want, rules); d != "" {
		t.Error(d)
	}
}

func TestHBAProblemsHaveTheirLine(t *testing.T) {
	for _, bad := range []string{
		"host all all trust", "local all all all trust", "hostnossl all all all trust", "host all all all md5",
		"host all all all peer", "host all all 10.0.0.1 trust", "host all all 10.0.0.0/33 trust", "host all all 10.0.0.0/x trust",
		"host all all ::1/129 trust", "host all all 10.0.0.0/-1 trust", "host all all 10.0.0.0 255.0.0.0 trust", "host all all samenet trust",
	} {
		_, _, errs := ParseHBA("hba", []byte("\n"+bad+"\n"))
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "hba:2: ") || !strings.Contains(errs[0].Error(), "; ") {
			t.Errorf("%s: %v", bad, errs)
		}
	}
}

func TestHBANetworksAreNotRounded(t *testing.T) {
	for _, c := range []struct {
		network, client string
		want            bool
	}{
		{"10.0.0.4/30", "10.0.0.7", true},
		{"10.0.0.4/30", "10.0.0.8", false},
		{"10.0.0.5/30", "10.0.0.4", true}, // host bits in the file don't count
		{"10.128.0.0/9", "10.127.255.255", false},
		{"10.128.0.0/9", "10.200.1.1", true},
		{"0.0.0.0/0", "192.0.2.1", true},
		{"10.0.0.0/0", "192.0.2.1", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::0/0", "2001:db8::1", true},
		{"::/0", "192.0.2.1", false},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"127.0.0.1/32", "::ffff:127.0.0.1", true},
		{"::ffff:10.0.0.0/104", "10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "11.1.2.3", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"all", "192.0.2.1", true},
		{"all", "", true},
		{"::0/0", "", true},
		{"0.0.0.0/0", "", false},
		{"127.0.0.1/32", "", false},
		{"::1/128", "", false},
		{"nonsense", "192.0.2.1", false},
	} {
		var client netip.Addr
		if c.client != "" {
			client = netip.MustParseAddr(c.client)
		}
		if got := (HBARule{Address: c.network}).Contains(client); got != c.want {
			t.Errorf("%s in %s: %v", c.client, c.network, got)
		}
	}
}

func TestLimitsFileReads(t *testing.T) {
	text := "# c\nmydb = a1 , a2 alice 10 5 2 # c\ndb2 bob 20\n DB3=x\tcarol 5 3\nall all all\n"
	limits, warnings, errs := ParseLimits("limits", []byte(text), 100)
	if len(errs)+len(warnings) > 0 {
		t.Fatal(warnings, errs)
	}
	want := []Limit{
		{"mydb", []string{"a1", "a2"}, "alice", 10, 5, 2, 2},
		{"db2", nil, "bob", 20, 0, 0, 3},
		{"DB3", []string{"x"}, "carol", 5, 3, 0, 4},
		{"all", nil, "all", 65, 0, 0, 5},
	}
	if d := cmp.Diff(want, limits); d != "" {
		t.Error(d)
	}
}

func TestLimitSizesAreBroughtIntoOrder(t *testing.T) {
	for text, want := range map[string][3]int{
		"d u 5 9 9": {5, 5, 5}, "d u 5 1 3": {5, 3, 3}, "d u 5 0 3": {5, 0, 3}, "d u ALL all 0": {100, 100, 0},
	} {
		limits, _, errs := ParseLimits("f", []byte(text), 100)
		if len(errs) > 0 || len(limits) != 1 {
			t.Fatalf("%s: %v", text, errs)
		}
		if l := limits[0]; [3]int{l.MaxSize, l.InitialSize, l.MinSize} != want {
			t.Errorf("%s: %+v", text, l)
		}
	}
}

func TestLimitProblemsHaveTheirLine(t *testing.T) {
	for _, bad := range []string{
		"d u", "d", "d u x", "d u 0", "d u -1", "d u 5 x", "d u 5 1 y", "d u 5 1 1 1", "all=x u 5", "d= u 5", "d=a,,b u 5",
		"d=other u 5", "d=d u 5", "d=one u 5", "d=all u 5", "d u 99999999999",
	} {
		_, _, errs := ParseLimits("limits", []byte("other=one u 1\n"+bad+"\n"), 100)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "limits:2: ") {
			t.Errorf("%s: %v", bad, errs)
		}
	}
	if _, _, errs := ParseLimits("f", []byte("a u 100\nb u all\n"), 100); len(errs) != 1 {
		t.Errorf("all that leaves nothing: %v", errs)
	}
}

func TestLimitRuleSelection(t *testing.T) {
	file := func(text string) []Limit {
		l, _, errs := ParseLimits("f", []byte(text), 1000)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return l
	}
	for _, c := range []struct {
		text, database, user string
		want                 int
	}{
		{"a u 1\nb v 1", "c", "u", -1},
		{"all all 1\na all 1\nall u 1\na u 1", "a", "u", 3},
		{"a u 1\nall all 1\na u 2", "a", "u", 0},
		{"all all 1\na all 1", "a", "w", 1},
		{"all all 1\nall u 1", "z", "u", 1},
		{"a all 1\nall u 1", "a", "u", 1},
		{"all u 1\na all 1", "a", "u", 1},
		{"a=x u 1\nall all 1", "x", "u", 0},
		{"all u 1\na=x u 1", "x", "u", 1},
		{"a=x u 1", "x", "v", -1},
		{"", "a", "u", -1},
	} {
		if got := FindLimit(file(c.text), c.database, c.user); got != c.want {
			t.Errorf("%q for %s/%s: rule %d, want %d", c.text, c.database, c.user, got, c.want)
		}
	}
	limits := file("real=a,b u 1\n")
	for name, want := range map[string]string{"a": "real", "b": "real", "real": "real", "other": "other"} {
		if got := RealDatabase(limits, name); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}
