package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIdentFileReads(t *testing.T) {
	for line, want := range map[string]IdentLine{
		"m Joe joe # c":             {Map: "m", System: "Joe", User: "joe"},
		`"my map" "Joe Doe" "all"`:  {Map: "my map", System: "Joe Doe", User: "all", Literal: true},
		"m x all":                   {Map: "m", System: "x", User: "all", AnyUser: true},
		`m /^(.*)@example\.com$ \1`: {Map: "m", System: `/^(.*)@example\.com$`, User: `\1`},
		`m "/^CN=(a, b)$" "u \1"`:   {Map: "m", System: `/^CN=(a, b)$`, User: `u \1`, Literal: true},
		"m x /^a":                   {Map: "m", System: "x", User: "/^a"},
		"m /^(a)$ \\\n b":           {Map: "m", System: "/^(a)$", User: "b"},
	} {
		lines, errs := ParseIdent("ident", []byte("; c\n"+line+"\n"))
		want.File, want.Line = "ident", 2
		if d := cmp.Diff([]IdentLine{want}, lines); d != "" || len(errs) > 0 {
			t.Errorf("%s: %s %v", line, d, errs)
		}
	}
}

func TestIdentProblemsHaveTheirPlace(t *testing.T) {
	for line, want := range map[string]string{
		"m x":             "2:1: fewer than three fields; write MAP",
		"m x y z":         "2:7: more than three fields; write MAP",
		"m x y,z":         "2:7: a list of names; write a line for each",
		"m x +y":          "2:5: pgagroal doesn't know who is a member of a role; write a line",
		"m /(x y":         "2:3: missing closing )",
		"m x /(y":         "2:5: missing closing )",
		`m /x \1`:         `2:6: \1 stands for the first group of the regular expression, which has none; write`,
		"include nowhere": "2:9: the file nowhere can't be read",
		"m 'x' y":         "2:3: single quotes mean nothing here",
	} {
		lines, errs := ParseIdent("ident", []byte("\n"+line+"\n"))
		if len(errs) != 1 || len(lines) != 0 || !strings.HasPrefix(errs[0].Error(), "ident:"+want) || !strings.Contains(errs[0].Error(), "; ") {
			t.Errorf("%s: %v, lines %v, want ident:%s", line, errs, lines, want)
		}
	}
}

// A rule's map must exist, and md5 = off forbids the method.
func TestRulesAskForMapsAndMethodsThatExist(t *testing.T) {
	for text, want := range map[string]string{
		"hostssl all all all cert map=m\n":     "",
		"hostssl all all all cert map=other\n": "the map other has no line in pgagroal_ident.conf",
		"host all all all md5\n":               "the method md5, and md5 is off",
	} {
		dir := directory(t, map[string]string{
			FileConfig: "[pgagroal]\nmd5 = off\ntls = allow\ntls_ca_file = /ca.pem\nident_file = maps" + strings.TrimPrefix(minimalMain, "[pgagroal]"), FileHBA: text, "maps": "m x y\n",
		})
		p, err := FindPaths(Flags{Directory: dir})
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(p)
		if err != nil {
			t.Fatal(err)
		}
		k := checker{c: c}
		k.rules()
		switch {
		case want == "" && len(k.errs) > 0, want != "" && len(k.errs) != 1:
			t.Errorf("%s: %v", text, k.errs)
		case want != "" && !strings.HasPrefix(k.errs[0].Error(), dir+"/"+FileHBA+":1: "+want):
			t.Errorf("%s: %v, want %s", text, k.errs[0], want)
		}
	}
}

// FuzzIdent: no file causes a panic, and each line that is read has its fields.
func FuzzIdent(f *testing.F) {
	for _, l := range []string{`m /^(.*)@x$ \1`, `"m" "a b" "all"`, "m x all\n", "include x", "m /a \\\n/b"} {
		f.Add([]byte(l))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, _ := parseIdent("f", data, nowhere)
		for _, l := range lines {
			if l.Map == "" || l.System == "" || l.User == "" || l.Line == 0 {
				t.Fatalf("%+v", l)
			}
		}
	})
}
