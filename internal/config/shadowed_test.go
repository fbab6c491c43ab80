package config

import (
	"strings"
	"testing"
)

// A line without effect, because earlier lines apply to all its clients, gets a warning.
func TestLinesThatDoNothingAreWarnedOf(t *testing.T) {
	for text, want := range map[string]string{
		"a u 1\na u 2":                   "f:2: a and u are at line 1 already",
		"a u 1\nall all 5\na u 2":        "f:3: a and u are at line 1 already",
		"a,b u 1\nc,b u,v 2":             "f:2: b and u are at line 1 already",
		"a=x u 1\n\"x\" v 1\nb u 1":      "",
		"all all 1\nall all 2":           "f:2: all and all are at line 1 already",
		"all all 1\nall u 2\na all 1":    "",
		"a all 1\na all 2\na all 3":      "f:2: a and all are at line 1 already\nf:3: a and all are at line 1 already",
		`"b c" u 1` + "\n" + `"b c" u 1`: `f:2: "b c" and u are at line 1 already`,
		"a u 1\nb u 1\na v 1":            "",
	} {
		_, warnings, _ := ParseLimits("f", []byte(text), 100)
		wantWarnings(t, text, warnings, want)
	}
	for text, want := range map[string]string{
		"host all all all trust\nhost all bob all reject":                                "f:2: never used: whoever fits this line fits line 1",
		"host all bob all reject\nhost all all all trust":                                "",
		"host a,b all all trust\n\nhost b u 10.0.0.0/8 reject":                           "f:3: never used: whoever fits this line fits line 1",
		"host a all all trust\nhost a,b all all reject":                                  "",
		"host a u all trust\nhost a all all reject":                                      "",
		"host a u 10.0.0.0/8 trust\nhost a u 10.1.0.0/16 reject":                         "f:2: never used",
		"host a u 10.1.0.0/16 trust\nhost a u 10.0.0.0/8 reject":                         "",
		"host a u 0.0.0.0/0 trust\nhost a u ::1/128 reject":                              "",
		"host sameuser all all trust\nhost bob bob all reject":                           "",
		"host sameuser,a all all trust\nhost sameuser all all reject":                    "f:2: never used",
		"host a all all trust\nhost sameuser all all reject":                             "",
		"hostssl all all all trust\nhost all all all reject":                             "",
		"host all all all trust\nhostnossl all all all reject":                           "f:2: never used",
		"host all all all trust\nlocal all all reject":                                   "",
		"local all all trust\nlocal all u reject":                                        "f:2: never used",
		"host /a all all trust\nhost /a,/b all all reject":                               "",
		"host /a,/b all all trust\nhost /b all all reject":                               "f:2: never used",
		"host c.test all all trust\nhostssl all all all reject":                          "",
		"host all all all trust\nhost all u all reject\nhostssl a u 10.0.0.0/8 password": "f:2: never used\nf:3: never used",
	} {
		rules, errs := ParseHBA("f", []byte(text))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		wantWarnings(t, text, shadowed(rules), want)
	}
}

// A hostssl line demands TLS only if no later line admits the same client without it.
func TestLinesThatLetClearTextInAreWarnedOf(t *testing.T) {
	for text, want := range map[string]string{
		"hostssl all all all trust":                                                       "",
		"hostssl all all all trust\nhost all all all trust":                               "f:1: without TLS whoever fits this line gets in by line 2",
		"hostssl a u 10.0.0.0/8 trust\nhost all all all trust":                            "f:1: without TLS",
		"hostssl all all all trust\nhost a u 10.0.0.0/8 trust":                            "",
		"hostssl all all all trust\nhostnossl all all all reject\nhost all all all trust": "",
		"hostssl all all all trust\nhostnossl all all all password":                       "f:1: without TLS",
		"hostssl all all all reject\nhost all all all trust":                              "",
		"hostssl all all all trust\nhost all all 10.0.0.0/8 trust":                        "",
		"host all all all trust\nhostssl a all all trust":                                 "",
		"hostssl all all all trust\nlocal all all trust":                                  "",
	} {
		rules, errs := ParseHBA("f", []byte(text))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		wantWarnings(t, text, unencrypted(rules), want)
	}
}

// wantWarnings compares the beginnings of warnings, a line for each.
func wantWarnings(t *testing.T, text string, got []Warning, want string) {
	t.Helper()
	var lines []string
	if want != "" {
		lines = strings.Split(want, "\n")
	}
	if len(got) != len(lines) {
		t.Errorf("%q: warnings %v, want %q", text, got, lines)
		return
	}
	for i, w := range got {
		if s := w.String(); !strings.HasPrefix(s, lines[i]) || !strings.Contains(s, "; ") {
			t.Errorf("%q: warning %q, want %q", text, s, lines[i])
		}
	}
}

// PostgreSQL's log_line_prefix has other conversions than strftime, and most letters mean something in both.
func TestPrefixOfAnotherKindIsWarnedOf(t *testing.T) {
	for prefix, want := range map[string]string{
		"%Y-%m-%d %H:%M:%S":   "",
		"%F %T.%L %z":         "",
		"%FT%T%:z":            "",
		"%I:%M:%S %p":         "",
		"%r":                  "",
		"%c":                  "",
		"%F":                  "",
		"%-d.%-m.%y %H":       "",
		"%s":                  "",
		"pooler 100%% ":       "",
		"":                    "",
		"%m [%p] ":            "%p is AM or PM",
		"%m [%p] %q%u@%d/%a ": "%q is no conversion",
		"%t:%r:%u@%d:[%p]: ":  "%p is AM or PM",
		"%m %u@%d ":           "no time and no year",
		"%t ":                 "no time and no year",
		"%H:%M %q":            "%q is no conversion",
		"%H:%M %":             "% is no conversion",
	} {
		c, warnings, errs := parsed(t, "log_line_prefix = '"+prefix+"'", nil)
		if len(errs) > 0 || c.LogLinePrefix != prefix {
			t.Errorf("%q: %v, value %q", prefix, errs, c.LogLinePrefix)
		}
		if want != "" {
			want = "f:2: log_line_prefix: " + want
		}
		wantWarnings(t, prefix, warnings, want)
	}
}
