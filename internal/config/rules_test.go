package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// conf get and status print rules in the syntax of the files.
func TestPrintedNamesReadBackTheSame(t *testing.T) {
	for _, n := range []Names{
		everybody,
		{SameUser: true, List: []string{"x", "y"}},
		{All: true, List: []string{"z"}},
		Named("all"), Named("ALL", "sameuser", "replication", "samerole"), Named("a,b", "c d", `e"f`, `"`), Named("#", ";", "=x", "a=b", "+x", "@x"),
		Named("it's", "'x", "*", `a\b`, "a\u00a0b", "größe"),
		{List: []string{"x"}, Patterns: []string{`^a\d+$`, `"`, "a b,c#"}},
	} {
		rules, errs := ParseHBA("hba", []byte("host "+n.String()+" all all trust"))
		if len(errs) > 0 {
			t.Errorf("%s: %v", n, errs)
			continue
		}
		if d := cmp.Diff(n, rules[0].Database); d != "" {
			t.Errorf("%s: %s", n, d)
		}
	}
	if got := Named("my.user", "größe", "all").String(); got != `my.user,größe,"all"` {
		t.Errorf("printed %s", got)
	}
}

func TestLimitsFileReads(t *testing.T) {
	text := "# c\nmydb = a1 , a2 alice 10 5 2 # c\ndb2 bob 20 query_timeout=90\n DB3=x\tcarol 5 3 query_timeout = 0 # off\n" +
		"\"my db\"=\"a, b\",c \"all\" 1\n\"d=e\", f g , \"h\" 4\nall all all\n"
	limits, warnings, errs := ParseLimits("limits", []byte(text), 100)
	if len(errs)+len(warnings) > 0 {
		t.Fatal(warnings, errs)
	}
	want := []Limit{
		{Named("mydb"), []string{"a1", "a2"}, Named("alice"), 10, false, 5, 2, Unset, 2},
		{Named("db2"), nil, Named("bob"), 20, false, 0, 0, 90 * time.Second, 3},
		{Named("DB3"), []string{"x"}, Named("carol"), 5, false, 3, 0, 0, 4},
		{Named("my db"), []string{"a, b", "c"}, Named("all"), 1, false, 0, 0, Unset, 5},
		{Named("d=e", "f"), nil, Named("g", "h"), 4, false, 0, 0, Unset, 6},
		{everybody, nil, everybody, 60, true, 0, 0, Unset, 7},
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

func TestLimitProblemsHaveTheirPlace(t *testing.T) {
	for line, want := range map[string]string{
		"d":                                    "2:1: 1 fields; write DATABASE[=alias,...] USER MAX_SIZE",
		"d u":                                  "2:1: 2 fields; write DATABASE",
		"d= u 5":                               "2:1: 2 fields; write DATABASE",
		"d u 5 1 1 1":                          "2:1: 6 fields; write DATABASE",
		"my data base u 5 1":                   "2:1: 6 fields; write DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]] [query_timeout=DURATION], and double quotes",
		"d u 5 idle_timeout=5":                 "2:7: the option idle_timeout is unknown; write query_timeout=DURATION",
		"d u 5 query_timeout=soon":             "2:21: query_timeout: \"soon\" is not a duration",
		"d u 5 query_timeout=1 1":              "2:7: the size query_timeout is neither",
		"d u x":                                "2:5: the size x is neither a number from 0 nor all; write digits",
		"d u -1":                               "2:5: the size -1 is neither",
		"d u 5,6":                              "2:5: the size 5 is neither",
		`d u "5"`:                              "2:5: the size 5 is neither",
		"d u max=5":                            "2:5: the size max is neither",
		"d u 5 x":                              "2:7: the size x is neither",
		"d u 5 1 y":                            "2:9: the size y is neither",
		"d u 99999999999":                      "2:5: the size 99999999999 is neither",
		"d u 0":                                "2:5: MAX_SIZE is 0; it must be 1 or more",
		"all=x u 5":                            "2:5: all can't have aliases; name the database",
		"d,e=x u 5":                            "2:5: a list of databases can't have aliases; write a line",
		"d=all u 5":                            "2:3: all can't be an alias; choose another",
		"d=a,,b u 5":                           "2:5: an empty name before the ,; write the name",
		"=a u 5":                               "2:1: an empty name before the =; write the name",
		"d=other u 5":                          "2:3: the alias other is the name of a database here; choose another",
		"d=d u 5":                              "2:3: the alias d is the name of a database here",
		"d=one u 5":                            "2:3: the alias one is there already, at line 1; choose another",
		"d u=v 5":                              "2:5: a user has no alias; write DATABASE",
		"* u 5":                                "2:1: the * means nothing here; write all",
		"d * 5":                                "2:3: the * means nothing here; write all",
		"d 'u' 5":                              "2:3: single quotes mean nothing here; put the name in double quotes",
		`"d" "u 5`:                             `2:5: the quote " is never closed; close it`,
		"sameuser u 5":                         "2:1: sameuser isn't known here; sameuser is a word of pgagroal_hba.conf",
		"samerole u 5":                         "2:1: pgagroal doesn't know who is a member of a role, which samerole asks for",
		"d +staff 5":                           "2:3: pgagroal doesn't know who is a member of a role; write the users",
		"d @users 5":                           "2:3: files of names aren't read here; write the users",
		"/^d u 5":                              "2:1: regular expressions aren't known here; write the databases",
		"[databases]":                          "2:1: this file has no sections; delete the line",
		"d = host=10.0.0.1 port=5432 dbname=d": "2:9: a second = ; PgBouncer's form isn't known here: servers are sections of pgagroal.conf",
	} {
		limits, _, errs := ParseLimits("limits", []byte("other=one u 1\n"+line+"\n"), 100)
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "limits:"+want) || !strings.Contains(errs[0].Error(), "; ") {
			t.Errorf("%s: %v, limits %v, want limits:%s", line, errs, limits, want)
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
		{"all all 1\na,b u,v 1", "b", "v", 1},
		{"a,b u,v 1", "b", "w", -1},
		{"a,b u,v 1", "c", "v", -1},
		{`"all" u 1`, "a", "u", -1},
		{`"all" u 1`, "all", "u", 0},
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

// A changed max_connections needs a restart, and until then all means what the running one leaves.
func TestSizeAllIsThatOfTheRunningMaxConnections(t *testing.T) {
	read := func(maxConnections int) *Config {
		c := New()
		c.MaxConnections = maxConnections
		limits, _, errs := ParseLimits("f", []byte("d u 10\nall all all 60 50\n"), maxConnections)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		c.Limits = limits
		return c
	}
	for fresh, want := range map[int][3]int{40: {30, 30, 30}, 20: {30, 10, 10}, 100: {30, 30, 30}} {
		c := Reloaded(read(40), read(fresh))
		l := c.Limits[1]
		if got := [3]int{l.MaxSize, l.InitialSize, l.MinSize}; got != want {
			t.Errorf("max_connections = %d in the file, 40 in effect: %v, want %v", fresh, got, want)
		}
	}
}
