package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHBAFileReads(t *testing.T) {
	for line, want := range map[string]HBARule{
		"HOST ALL all 127.0.0.1/32 Trust":                          {"host", everybody, everybody, "127.0.0.1/32", "trust", 2},
		"\thostssl\tdb\tAlice  2001:db8::/32 SCRAM-SHA-256 # c":    {"hostssl", Named("db"), Named("Alice"), "2001:db8::/32", "scram-sha-256", 2},
		"host db bob all all ; c":                                  {"host", Named("db"), Named("bob"), "all", "all", 2},
		"host a,b all all reject":                                  {"host", Named("a", "b"), everybody, "all", "reject", 2},
		"host a, b c , d all reject":                               {"host", Named("a", "b"), Named("c", "d"), "all", "reject", 2},
		`host "my db" "a,b" all reject`:                            {"host", Named("my db"), Named("a,b"), "all", "reject", 2},
		`host "all","sameuser","replication" "+x","@y" all reject`: {"host", Named("all", "sameuser", "replication"), Named("+x", "@y"), "all", "reject", 2},
		`host "a""b" "#c","d;" all reject`:                         {"host", Named(`a"b`), Named("#c", "d;"), "all", "reject", 2},
		"host sameuser,x all all trust":                            {"host", Names{SameUser: true, List: []string{"x"}}, everybody, "all", "trust", 2},
		"host x,all sameuser all trust":                            {"host", Names{All: true, List: []string{"x"}}, Named("sameuser"), "all", "trust", 2},
		"host größe o'neil all trust":                              {"host", Named("größe"), Named("o'neil"), "all", "trust", 2},
		"host all all 10.1.2.3 255.255.254.0 trust":                {"host", everybody, everybody, "10.1.2.3/23", "trust", 2},
		"host all all 10.1.2.3 0.0.0.0 trust # c":                  {"host", everybody, everybody, "10.1.2.3/0", "trust", 2},
		"host all all 2001:db8:: ffff:ffff:: trust":                {"host", everybody, everybody, "2001:db8::/32", "trust", 2},
		"host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust": {
			"host", everybody, everybody, "::1/128", "trust", 2,
		},
	} {
		rules, errs := ParseHBA("hba", []byte("# c\n"+line+"\n"))
		if len(errs) > 0 {
			t.Errorf("%s: %v", line, errs)
			continue
		}
		if d := cmp.Diff([]HBARule{want}, rules); d != "" {
			t.Errorf("%s: %s", line, d)
		}
	}
}

// Text that PostgreSQL, PgBouncer or a shell would read differently is refused, with its position and what to write
// instead.
func TestHBAProblemsHaveTheirPlace(t *testing.T) {
	for line, want := range map[string]string{
		"host all all trust":                              "2:1: fewer than five fields; write TYPE",
		"host all all all":                                "2:1: fewer than five fields",
		"host all all all # trust":                        "2:1: fewer than five fields",
		"host all #x all trust":                           "2:1: fewer than five fields",
		"local all all trust":                             "2:1: the type local is not known here; write host with the address all",
		"  hostnossl all all all trust":                   "2:3: the type hostnossl is not known here; write host",
		"include other.conf":                              "2:1: the type include is not known here; write the lines of that file here",
		"allow all all all trust":                         "2:1: the type allow is not known here; write host or hostssl",
		"host all all all md5":                            "2:18: the method md5 is gone; write scram-sha-256",
		"host all all all peer":                           "2:18: the method peer is not known here; write trust",
		"host all all all trust,reject":                   "2:18: the method is one word without quotes; write trust",
		"host all all all trust;":                         "2:18: the method trust; is not known",
		"host all all all scram-sha-256 clientcert=1":     "2:32: more text behind the method",
		"host my secret all all reject":                   "2:24: more text behind the method",
		"host all all 10.0.0.1 trust":                     "2:14: the address 10.0.0.1 has no mask; write 10.0.0.1/32",
		"host all all ::1 trust":                          "2:14: the address ::1 has no mask; write ::1/128",
		"host all all 10.0.0.0/33 trust":                  "2:14: the address 10.0.0.0/33 is not a network; write one",
		"host all all 10.0.0.0/x trust":                   "2:14: the address 10.0.0.0/x is not a network",
		"host all all ::1/129 trust":                      "2:14: the address ::1/129 is not a network",
		"host all all [::1]/128 trust":                    "2:14: the address [::1]/128 is not a network",
		"host all all 10.0.0.0/-1 trust":                  "2:14: the address 10.0.0.0/-1 is not a network",
		"host all all 10.0.0.0 255.0.255.0 trust":         "2:14: the address 10.0.0.0 and the mask 255.0.255.0 are no network",
		"host all all 10.0.0.0 ffff:: trust":              "2:14: the address 10.0.0.0 and the mask ffff:: are no network",
		"host all all 10.0.0.0 255.0.0.0":                 "2:1: no method behind the mask; write TYPE",
		"host all all 10.0.0.0/8,192.168.0.0/16 trust":    "2:14: the address 10.0.0.0/8 is the first of a list; write a line for each",
		`host all all "10.0.0.0/8" trust`:                 "2:14: the address 10.0.0.0/8 is in quotes; write",
		"host all all samenet trust":                      "2:14: the address samenet isn't known here; write the networks",
		"host all all samehost trust":                     "2:14: the address samehost isn't known here; write the networks",
		"host all all localhost trust":                    "2:14: the address localhost is the name of a host",
		"host all all .example.com trust":                 "2:14: the address .example.com is the name of a host",
		"host all all * trust":                            "2:14: the address * is the name of a host, which isn't looked up here; write all",
		"host all +staff all reject":                      "2:10: groups aren't known here; write the users",
		"host all bob,+staff all reject":                  "2:14: groups aren't known here",
		"host all @users all reject":                      "2:10: files of names aren't read here; write the users",
		"host @dbs all all reject":                        "2:6: files of names aren't read here; write the databases",
		"host all /^ap all reject":                        "2:10: regular expressions aren't known here; write the users",
		`host "/^(a|b),$" all all reject`:                 "2:6: regular expressions aren't known here; write the databases",
		"host samerole all all reject":                    "2:6: samerole isn't known here; write the databases",
		"host samegroup all all reject":                   "2:6: samegroup isn't known here",
		"host SameUser all all reject":                    "2:6: SameUser isn't known here",
		"host replication all all reject":                 "2:6: pgagroal refuses replication connections itself; delete the line",
		"host * all all reject":                           "2:6: the * means nothing here; write all",
		"host all app_* all reject":                       "2:10: the * means nothing here; write all",
		"host 'secret' all all reject":                    "2:6: single quotes mean nothing here; put the name in double quotes",
		"host “secret” all all reject":                    "2:6: the typographic quote “; write \"",
		`host my\ db all all reject`:                      `2:8: a \ means nothing here`,
		`host all all \`:                                  `2:14: a \ means nothing here, and lines can't be continued`,
		`host "secret all all reject`:                     `2:6: the quote " is never closed; close it`,
		`host sec"ret" all all reject`:                    "2:9: a quote inside a word; put the whole name in double quotes",
		`host "sec"ret all all reject`:                    "2:11: more text right behind the closing quote",
		`host "" all all reject`:                          "2:6: an empty name in quotes; write the name",
		"host a,,b all all reject":                        "2:8: an empty name before the ,; write the name",
		",host all all all reject":                        "2:1: an empty name before the ,",
		"host all all all reject, # c":                    "2:24: the line ends in a separator; write the name",
		"host a#b all all reject":                         "2:7: a # inside a word; put a blank before a comment",
		"host größe\u00a0x all all reject":                "2:11: the unusual blank U+00A0; write an ordinary blank",
		`"host" all all all reject`:                       "2:1: the type is one word without quotes; write host",
		"host all all all " + strings.Repeat("x", 17<<10): "2:1: the line is longer than 16384 bytes; shorten it",
	} {
		rules, errs := ParseHBA("hba", []byte("\n"+line+"\n"))
		if len(errs) != 1 || len(rules) != 0 || !strings.HasPrefix(errs[0].Error(), "hba:"+want) || !strings.Contains(errs[0].Error(), "; ") {
			t.Errorf("%s: %v, rules %v, want hba:%s", line, errs, rules, want)
		}
	}
}

// conf get and status print rules in the syntax of the files.
func TestPrintedNamesReadBackTheSame(t *testing.T) {
	for _, n := range []Names{
		everybody,
		{SameUser: true, List: []string{"x", "y"}},
		{All: true, List: []string{"z"}},
		Named("all"), Named("ALL", "sameuser", "replication", "samerole"), Named("a,b", "c d", `e"f`, `"`), Named("#", ";", "=x", "a=b", "+x", "@x"),
		Named("it's", "'x", "*", `a\b`, "a\u00a0b", "größe"),
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
	text := "# c\nmydb = a1 , a2 alice 10 5 2 # c\ndb2 bob 20\n DB3=x\tcarol 5 3\n" +
		"\"my db\"=\"a, b\",c \"all\" 1\n\"d=e\", f g , \"h\" 4\nall all all\n"
	limits, warnings, errs := ParseLimits("limits", []byte(text), 100)
	if len(errs)+len(warnings) > 0 {
		t.Fatal(warnings, errs)
	}
	want := []Limit{
		{Named("mydb"), []string{"a1", "a2"}, Named("alice"), 10, 5, 2, 2},
		{Named("db2"), nil, Named("bob"), 20, 0, 0, 3},
		{Named("DB3"), []string{"x"}, Named("carol"), 5, 3, 0, 4},
		{Named("my db"), []string{"a, b", "c"}, Named("all"), 1, 0, 0, 5},
		{Named("d=e", "f"), nil, Named("g", "h"), 4, 0, 0, 6},
		{everybody, nil, everybody, 60, 0, 0, 7},
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
		"my data base u 5 1":                   "2:1: 6 fields; write DATABASE[=alias,...] USER MAX_SIZE [INITIAL_SIZE [MIN_SIZE]], and double quotes",
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
		"samerole u 5":                         "2:1: samerole isn't known here; write the databases",
		"d +staff 5":                           "2:3: groups aren't known here; write the users",
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

// FuzzLines: no line causes a panic, and the names of an accepted line are printed so that they are read
// as the same names.
func FuzzLines(f *testing.F) {
	for _, l := range []string{`host "a""b",c sameuser 10.0.0.0 255.0.0.0 reject # c`, `"a=b"=x , y all 1 2`, `=,"`, "host a, "} {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, line string) {
		ParseLimits("f", []byte(line), 100)
		rules, _ := ParseHBA("f", []byte(line))
		for _, r := range rules {
			again, errs := ParseHBA("f", []byte("host "+r.Database.String()+" "+r.User.String()+" all trust"))
			if len(errs) > 0 {
				t.Fatalf("%s %s: %v", r.Database, r.User, errs)
			}
			if d := cmp.Diff([]Names{r.Database, r.User}, []Names{again[0].Database, again[0].User}); d != "" {
				t.Fatal(d)
			}
		}
	})
}
