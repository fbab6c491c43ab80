package leftovers

import (
	"strings"
	"testing"
)

func FuzzRead(f *testing.F) {
	for _, sql := range nothing {
		f.Add(sql)
	}
	for sql := range marking {
		f.Add(sql)
	}
	for sql := range changes {
		f.Add(sql)
	}
	r := reader(f)
	f.Fuzz(func(t *testing.T, sql string) {
		left := r.Read([]byte(sql))
		if left.Mark.Why != "" {
			for _, more := range []string{"; SELECT 1", ";", "; DISCARD ALL"} {
				if r.Read([]byte(sql+more)).Mark.Why == "" {
					t.Errorf("%q behind a text takes its mark %q away", more, left.Mark.Why)
				}
			}
			return
		}
		// Behind a text that is understood, everything is what it is alone. A comment to the
		// end of the line ends with it.
		if both := r.Read([]byte(sql + "\n; SELECT no_such_function(1)")); len(sql) < Limit-100 && both.Mark.Why != "function no_such_function" {
			t.Errorf("%q hides the statement behind it: %+v", sql, both.Mark)
		}
		if n := len(r.Read([]byte(sql + "\n; SET x = 1")).Changes); len(sql) < Limit-100 && n != len(left.Changes)+1 {
			t.Errorf("%q hides the SET behind it: %d changes", sql, n)
		}
		for _, c := range left.Changes {
			if again := r.Read([]byte(c.SQL)); c.SQL != "" && c.Kind != SetLocal && (len(again.Changes) != 1 || again.Changes[0].Name != c.Name) {
				t.Errorf("%q is replayed by %q, which is read as %+v", sql, c.SQL, again)
			}
		}
	})
}

// FuzzTokens: the tokens and what is between them are the whole text.
func FuzzTokens(f *testing.F) {
	f.Add("SELECT 'a' \"b\" $1 $x$ y $x$ 1.5e3 /* c */ -- d\n::")
	f.Fuzz(func(t *testing.T, sql string) {
		s := scanner{text: []byte(sql)}
		for at := 0; ; {
			tok := s.next()
			if tok.from < at || tok.to < tok.from || tok.to > len(sql) {
				t.Fatalf("%q: token %+v after %d", sql, tok, at)
			}
			if tok.kind == end || tok.kind == bad {
				return
			}
			if tok.to == at || tok.to == tok.from || strings.Trim(sql[tok.from:tok.to], " \t\r\n\f\v") == "" {
				t.Fatalf("%q: token %+v is empty", sql, tok)
			}
			at = tok.to
		}
	})
}
