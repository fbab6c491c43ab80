package pattern

import "testing"

func TestExpressionsMeanWhatTheyMeanToPostgreSQL(t *testing.T) {
	for _, tc := range []struct {
		text, name string
		want       bool
	}{
		{"ap", "xapy", true},
		{"^ap$", "ap", true},
		{"^ap$", "ap\n", false},
		{"^a.p$", "a\np", true},
		{"^A", "a", false},
		{`^a\d+$`, "a12", true},
		{"", "x", true},
	} {
		re, err := Compile(tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		if got := re.MatchString(tc.name); got != tc.want {
			t.Errorf("%q and %q: %v", tc.text, tc.name, got)
		}
	}
}

func TestExpressionsOfAnotherMeaningAreRefused(t *testing.T) {
	for _, text := range []string{`a\b`, `a\\\B`, `(a)\1`, `a(?=b)`, `\ma`, `[[:<:]]a`, "(", "a{2,1}"} {
		if _, err := Compile(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := Compile(`a\\b`); err != nil {
		t.Errorf("a backslash: %v", err)
	}
}
