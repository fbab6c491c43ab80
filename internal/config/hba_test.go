package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// hbaRule is a rule for hosts.
func hbaRule(database, user Names, address, method string) HBARule {
	return HBARule{Type: "host", Database: database, User: user, Address: address, Method: method}
}

func TestHBAFileReads(t *testing.T) {
	ssl := HBARule{Type: "hostssl", Database: everybody, User: everybody, Address: "all", Method: "cert"}
	strict, mapped := ssl, ssl
	strict.Method, strict.ClientCert = "scram-sha-256", "verify-ca"
	mapped.ClientCert, mapped.ClientName, mapped.Map = "verify-full", "DN", "people"
	for line, want := range map[string]HBARule{
		"HOST ALL all 127.0.0.1/32 Trust":                                              hbaRule(everybody, everybody, "127.0.0.1/32", "trust"),
		"\thostnossl\tdb\tAlice  2001:db8::/32 SCRAM-SHA-256 # c":                      {Type: "hostnossl", Database: Named("db"), User: Named("Alice"), Address: "2001:db8::/32", Method: "scram-sha-256"},
		"host db bob all all ; c":                                                      hbaRule(Named("db"), Named("bob"), "all", "all"),
		"host a, b c , d all reject":                                                   hbaRule(Named("a", "b"), Named("c", "d"), "all", "reject"),
		`host "my db" "a,b" all md5`:                                                   hbaRule(Named("my db"), Named("a,b"), "all", "md5"),
		`host "all","sameuser","replication" "+x","@y" all reject`:                     hbaRule(Named("all", "sameuser", "replication"), Named("+x", "@y"), "all", "reject"),
		`host "a""b" "#c","d;" all reject`:                                             hbaRule(Named(`a"b`), Named("#c", "d;"), "all", "reject"),
		"host sameuser,x all all trust":                                                hbaRule(Names{SameUser: true, List: []string{"x"}}, everybody, "all", "trust"),
		"host x,all sameuser all trust":                                                hbaRule(Names{All: true, List: []string{"x"}}, Named("sameuser"), "all", "trust"),
		"host größe o'neil all trust":                                                  hbaRule(Named("größe"), Named("o'neil"), "all", "trust"),
		`host /^a\d$,x "/^(b|c, d)","/e" all trust`:                                    hbaRule(Names{List: []string{"x"}, Patterns: []string{`^a\d$`}}, Names{Patterns: []string{"^(b|c, d)", "e"}}, "all", "trust"),
		"host all all 10.1.2.3 255.255.254.0 trust":                                    hbaRule(everybody, everybody, "10.1.2.3/23", "trust"),
		"host all all 10.1.2.3 0.0.0.0 trust # c":                                      hbaRule(everybody, everybody, "10.1.2.3/0", "trust"),
		"host all all 2001:db8:: ffff:ffff:: trust":                                    hbaRule(everybody, everybody, "2001:db8::/32", "trust"),
		"host all all samehost trust":                                                  hbaRule(everybody, everybody, "samehost", "trust"),
		"host all all samenet trust":                                                   hbaRule(everybody, everybody, "samenet", "trust"),
		"host all all DB1.Example.com trust":                                           hbaRule(everybody, everybody, "db1.example.com", "trust"),
		"host all all .example.com trust":                                              hbaRule(everybody, everybody, ".example.com", "trust"),
		"local all bob trust":                                                          {Type: "local", Database: everybody, User: Named("bob"), Method: "trust"},
		"hostssl all all all cert":                                                     ssl,
		"hostssl all all all scram-sha-256 clientcert=verify-ca":                       strict,
		"hostssl all all all cert map=people clientname=DN clientcert=verify-full # c": mapped,
	} {
		rules, errs := ParseHBA("hba", []byte("# c\n"+line+"\n"))
		want.File, want.Line = "hba", 2
		if d := cmp.Diff([]HBARule{want}, rules); d != "" || len(errs) > 0 {
			t.Errorf("%s: %v %s", line, errs, d)
		}
	}
}

// Unknown text, and text that means something else in PgBouncer or a shell, is refused. The error has its position and
// says what to write instead.
func TestHBAProblemsHaveTheirPlace(t *testing.T) {
	for line, want := range map[string]string{
		"host all all trust":                              "2:1: fewer than five fields; write TYPE",
		"host all all all # trust":                        "2:1: fewer than five fields",
		"host all #x all trust":                           "2:1: fewer than five fields",
		`host all all \`:                                  "2:1: fewer than five fields",
		"local all all":                                   "2:1: fewer than four fields; write local",
		"local all all all trust":                         "2:15: a line of the type local has no address; write local",
		"local all all 127.0.0.1/32 trust":                "2:15: a line of the type local has no address; write local",
		"local all all cert":                              "2:15: the method cert needs TLS; write the type hostssl",
		"host all all all cert":                           "2:18: the method cert needs TLS; write the type hostssl",
		"  hostgssenc all all all trust":                  "2:3: the type hostgssenc is not known here; delete the line",
		"hostnogssenc all all all trust":                  "2:1: the type hostnogssenc is not known here; write host",
		"allow all all all trust":                         "2:1: the type allow is not known here; write local, host",
		"host all all all peer":                           "2:18: the method peer is not known here; pgagroal doesn't ask who",
		"host all all all ldap":                           "2:18: the method ldap is not known here; write all, and leave users",
		"host all all all nonsense":                       "2:18: the method nonsense is not known here; write trust",
		"host all all all trust,reject":                   "2:18: the method is one word without quotes; write trust",
		"host all all all trust;":                         "2:18: the method trust; is not known",
		"host all all all scram-sha-256 clientcert=1":     "2:32: the option clientcert is about certificates of clients; write the type hostssl",
		"host all all all scram-sha-256 and more":         "2:32: and follows the method and is no option; delete it",
		"hostssl all all all trust clientcert=1":          "2:27: clientcert can't be 1; write verify-ca or verify-full",
		"hostssl all all all trust clientname=cn":         "2:27: clientname can't be cn; write CN, DN or SAN",
		"hostssl all all all trust map=x":                 "2:27: map is for the method cert; delete it",
		"hostssl all all all cert map=":                   "2:26: the option map has no value; write map=VALUE",
		"hostssl all all all cert map=x map=y":            "2:32: the option map is there twice; write it once",
		"hostssl all all all cert clientcert=verify-ca":   "2:21: cert compares a name, and clientcert=verify-ca none; write clientcert=verify-full",
		"hostssl all all all cert map=x,y":                "2:32: an option has one value; write a blank",
		"hostssl all all all trust ldapserver=x":          "2:27: the option ldapserver is not known here; write clientcert",
		"host all all 10.0.0.1 trust":                     "2:14: the address 10.0.0.1 has no mask; write 10.0.0.1/32",
		"host all all ::1 trust":                          "2:14: the address ::1 has no mask; write ::1/128",
		"host all all 10.0.0.0/33 trust":                  "2:14: the address 10.0.0.0/33 is not a network; write one",
		"host all all 10.0.0.0/x trust":                   "2:14: the address 10.0.0.0/x is not a network",
		"host all all ::1/129 trust":                      "2:14: the address ::1/129 is not a network",
		"host all all [::1]/128 trust":                    "2:14: the address [::1]/128 is not a network",
		"host all all 10.0.0.0 255.0.255.0 trust":         "2:14: the address 10.0.0.0 and the mask 255.0.255.0 are no network",
		"host all all 10.0.0.0 ffff:: trust":              "2:14: the address 10.0.0.0 and the mask ffff:: are no network",
		"host all all 10.0.0.0 255.0.0.0":                 "2:1: no method behind the mask; write TYPE",
		"host all all a.test 255.0.0.0 trust":             "2:14: the address a.test is the name of a host, and has no mask; delete 255.0.0.0",
		"host all all 10.0.0.0/8,192.168.0.0/16 trust":    "2:14: the address 10.0.0.0/8 is the first of a list; write a line for each",
		`host all all "10.0.0.0/8" trust`:                 "2:14: the address 10.0.0.0/8 is in quotes; write",
		"host all all * trust":                            "2:14: the address * is neither a network nor the name of a host; write all",
		"host all all 10.0.0 trust":                       "2:14: the address 10.0.0 is neither a network nor the name",
		"host all all a..b trust":                         "2:14: the address a..b is neither",
		"host all +staff all reject":                      "2:10: pgagroal doesn't know who is a member of a role; write the users",
		"host all bob,+staff all reject":                  "2:14: pgagroal doesn't know who",
		"host all @nowhere all reject":                    "2:10: the file nowhere can't be read: no such file or directory; create it",
		`host @"no where" all all reject`:                 "2:6: the file no where can't be read",
		"include nowhere":                                 "2:9: the file nowhere can't be read: no such file or directory; create it",
		"include_dir nowhere":                             "2:13: the directory nowhere can't be read",
		"include a b":                                     "2:1: include takes one file; write one in each line",
		"includes a":                                      "2:1: includes is not known here; write include,",
		"include /dev/zero":                               "2:9: the file /dev/zero can't be read: it is no regular file",
		"host all /(ap all reject":                        "2:10: missing closing )",
		`host all /^(a)p\1 all reject`:                    `2:10: invalid escape sequence: \1; back references`,
		`host "/^\bap" all all reject`:                    `2:6: \b is no word boundary in PostgreSQL; write`,
		"host samerole all all reject":                    "2:6: pgagroal doesn't know who is a member of a role, which samerole asks for; write the databases",
		"host samegroup all all reject":                   "2:6: pgagroal doesn't know who",
		"host SameUser all all reject":                    "2:6: SameUser isn't known here",
		"host replication all all reject":                 "2:6: pgagroal refuses replication connections itself; delete the line",
		"host * all all reject":                           "2:6: the * means nothing here; write all",
		"host all app_* all reject":                       "2:10: the * means nothing here; write all",
		"host 'secret' all all reject":                    "2:6: single quotes mean nothing here; put the name in double quotes",
		"host “secret” all all reject":                    "2:6: the typographic quote “; write \"",
		`host my\ db all all reject`:                      `2:8: a \ inside a word; put a name`,
		`host all all all trust \ `:                       `2:24: a \ inside a word; put a name that holds it in double quotes, and nothing after`,
		`host "secret all all reject`:                     `2:6: the quote " is never closed; close it`,
		`host sec"ret" all all reject`:                    "2:9: a quote inside a word; put the whole name in double quotes",
		`host "sec"ret all all reject`:                    "2:11: more text right behind the closing quote",
		`host "" all all reject`:                          "2:6: an empty name in quotes; write the name",
		"host a,,b all all reject":                        "2:8: an empty name before the ,; write the name",
		",host all all all reject":                        "2:1: an empty name before the ,",
		"host all all all reject, # c":                    "2:24: the line ends in a separator; write the name",
		"host a#b all all reject":                         "2:7: a # inside a word; put a blank before a comment",
		"host größe\u00a0x all all reject":                "2:11: the unusual blank U+00A0; write an ordinary blank",
		`"host" all all all reject`:                       "2:1: the type is one word without quotes; write local",
		"host all all all " + strings.Repeat("x", 17<<10): "2:1: the line is longer than 16384 bytes; shorten it",
		"host all \\\n\tall \\\n  10.0.0.1 trust":         "4:3: the address 10.0.0.1 has no mask",
		" \\\n  what all all all trust":                   "3:3: the type what is not known",
		"# comment \\\nhost all all all trust":            `2:1: a comment that ends in \, which would hide the next line; delete`,
	} {
		rules, errs := ParseHBA("hba", []byte("\n"+line+"\n"))
		if len(errs) != 1 || len(rules) != 0 || !strings.HasPrefix(errs[0].Error(), "hba:"+want) || !strings.Contains(errs[0].Error(), "; ") {
			t.Errorf("%s: %v, rules %v, want hba:%s", line, errs, rules, want)
		}
	}
}

func TestALineGoesOnAfterABackslash(t *testing.T) {
	rules, errs := ParseHBA("hba", []byte("host a\\\nb, \\\r\n\tc all \\\n\\\nall trust\nhost d all all trust \\"))
	want := []HBARule{hbaRule(Named("ab", "c"), everybody, "all", "trust"), hbaRule(Named("d"), everybody, "all", "trust")}
	if d := cmp.Diff(want, rules, cmpopts.IgnoreFields(HBARule{}, "File", "Line")); d != "" || len(errs) > 0 {
		t.Fatal(d, errs)
	}
	if rules[0].Line != 1 || rules[1].Line != 6 {
		t.Errorf("lines %d and %d", rules[0].Line, rules[1].Line)
	}
}

// Files are looked up beside the file that names them, and a problem has the place at which it is.
func TestHBAFilesReferToFiles(t *testing.T) {
	dir := directory(t, map[string]string{
		"hba":    "include sub_one\ninclude_if_exists none\ninclude_dir .\nhost @names,x \"@y\",@\"a b\" all trust\n",
		"b.conf": "host b all all trust\n", "a.conf": "host a all all trust\n", ".c.conf": "wrong", "d": "wrong",
		"sub_one": "host one @names all trust\n",
		"names":   "# c\nn1, n2\n\"n 3\" @more\n", "more": "all\n", "a b": "u",
		"cycle": "include cycle\n", "itself": "@itself", "deep": "host all @itself all trust",
		"wrong": "include d\nhost all @bad all trust\n", "bad": "ok\n  +role\n",
		"empty": "# nobody", "nobody": "host @empty all all trust",
		"long": "host all @much all trust", "much": strings.Repeat("abcdefghi\n", 5000),
	})
	parse := func(name string) ([]HBARule, []error) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return ParseHBA(filepath.Join(dir, name), data)
	}
	rules, errs := parse("hba")
	want := []HBARule{
		hbaRule(Named("one"), Names{All: true, List: []string{"n1", "n2", "n 3"}}, "all", "trust"),
		hbaRule(Named("a"), everybody, "all", "trust"), hbaRule(Named("b"), everybody, "all", "trust"),
		hbaRule(Names{All: true, List: []string{"n1", "n2", "n 3", "x"}}, Named("@y", "u"), "all", "trust"),
	}
	if d := cmp.Diff(want, rules, cmpopts.IgnoreFields(HBARule{}, "File", "Line")); d != "" || len(errs) > 0 {
		t.Fatal(d, errs)
	}
	if got := rules[0]; got.File != filepath.Join(dir, "sub_one") || got.Line != 1 {
		t.Errorf("the rule stands in %s:%d", got.File, got.Line)
	}
	for file, want := range map[string][]string{
		"cycle":  {"/cycle:1:9: " + dir + "/cycle would be the file of depth 11, and 10 is the most; files that refer to each other"},
		"deep":   {"/itself:1:1: " + dir + "/itself would be the file of depth 11"},
		"wrong":  {"/d:1:1: ", "/bad:2:3: pgagroal doesn't know who"},
		"nobody": {"/nobody:1:6: the file " + dir + "/empty names nobody; write"},
		"long":   {"/much:1:1: the names are longer than 24576 bytes; spread"},
	} {
		rules, errs := parse(file)
		if len(errs) != len(want) || len(rules) > 0 {
			t.Errorf("%s: %v %v", file, rules, errs)
			continue
		}
		for i := range errs {
			if !strings.HasPrefix(errs[i].Error(), dir+want[i]) {
				t.Errorf("%s: %v, want %s", file, errs[i], want[i])
			}
		}
	}
}

// nowhere is a fileReader that finds no file.
func nowhere(string) ([]byte, error) { return nil, fs.ErrNotExist }

// FuzzHBA: no file causes a panic, and the names of a rule are printed so that they are read as the same names.
func FuzzHBA(f *testing.F) {
	for _, l := range []string{
		`host "a""b",c sameuser 10.0.0.0 255.0.0.0 reject # c`, "host a, ", "host /^a\\d$ \"/b c\" .example.com md5\nlocal all \\\n all trust",
		"hostssl all all samenet cert map=x clientname=DN clientcert=verify-full", "include x\nhost @x @\"y z\" all trust", " \\\n\\\n#\\\n",
	} {
		f.Add([]byte(l))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, _ := parseHBA("f", data, nowhere)
		for _, r := range rules[:min(len(rules), 20)] {
			text := "host " + r.Database.String() + " " + r.User.String() + " all trust"
			if len(text) > maxLine {
				continue
			}
			again, errs := parseHBA("f", []byte(text), nowhere)
			if len(errs) > 0 {
				t.Fatalf("%s %s: %v", r.Database, r.User, errs)
			}
			if d := cmp.Diff([]Names{r.Database, r.User}, []Names{again[0].Database, again[0].User}); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// FuzzReferred checks that reading ends, in whatever way files refer to each other.
func FuzzReferred(f *testing.F) {
	f.Add([]byte("include x\nhost @x all all trust\n"), []byte("@x @x\ninclude f\n"))
	f.Fuzz(func(_ *testing.T, data, other []byte) {
		if len(data)+len(other) > 1000 {
			return
		}
		parseHBA("f", data, func(path string) ([]byte, error) {
			if path == "f" {
				return data, nil
			}
			return other, nil
		})
	})
}

// FuzzLimits: no file causes a panic.
func FuzzLimits(f *testing.F) {
	for _, l := range []string{`"a=b"=x , y all 1 2`, `=,"`} {
		f.Add([]byte(l))
	}
	f.Fuzz(func(_ *testing.T, data []byte) { ParseLimits("f", data, 100) })
}
