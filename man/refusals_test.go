package man_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

var rewrite = flag.Bool("rewrite", false, "write the refusals in pgagroal.8 anew")

const (
	refusalsBegin = ".\\\" Refusals, written by: go test ./man -run TestRefusals -rewrite\n"
	refusalsEnd   = ".\\\" End of the refusals.\n"
)

// TestRefusalsAreDocumented compares the list in pgagroal.8 with the table of refusals.
func TestRefusalsAreDocumented(t *testing.T) {
	text := page(t, "pgagroal.8")
	before, rest, ok := strings.Cut(text, refusalsBegin)
	is, after, ended := strings.Cut(rest, refusalsEnd)
	if !ok || !ended {
		t.Fatal("pgagroal.8 has no place for the refusals")
	}
	var want strings.Builder
	for _, r := range pgwire.Refusals() {
		want.WriteString(inManual(r.Row()))
	}
	if *rewrite {
		if err := os.WriteFile("pgagroal.8", []byte(before+refusalsBegin+want.String()+refusalsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want.String(), is); d != "" {
		t.Errorf("the refusals differ (-table +page):\n%s", d)
	}
}

// inManual returns a row as an item of a list.
func inManual(row pgwire.Row) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".It %s %s %s\n", row.Severity, row.Code, quoted(shown(row)))
	for _, s := range []string{row.When, row.Detail, row.Hint} {
		if s == "" {
			continue
		}
		for _, sentence := range strings.Split(s, ". ") {
			fmt.Fprintf(&b, "%s.\n", quoted(strings.TrimSuffix(sentence, ".")))
		}
	}
	return b.String()
}

// shown returns a row's text with examples in place of its verbs.
func shown(row pgwire.Row) string {
	examples := row.Shown
	return verb.ReplaceAllStringFunc(row.Text, func(string) string {
		if len(examples) == 0 {
			return "MISSING"
		}
		s := examples[0]
		examples = examples[1:]
		return s
	})
}

var verb = regexp.MustCompile(`%[sd]`)

func quoted(s string) string { return strings.ReplaceAll(s, `"`, `\(dq`) }

// TestRefusalsAreWellFormed: each has a text of its own, and what a client reads is an
// ErrorResponse with the fields that drivers look for.
func TestRefusalsAreWellFormed(t *testing.T) {
	texts := map[string]bool{}
	for _, r := range pgwire.Refusals() {
		row := r.Row()
		if n := len(verb.FindAllString(row.Text, -1)); n != len(row.Shown) || row.When == "" || !strings.HasSuffix(row.When, ".") {
			t.Errorf("%q: %d verbs, %d examples, %q", row.Text, n, len(row.Shown), row.When)
		}
		if texts[row.Text] {
			t.Errorf("two refusals say %q", row.Text)
		}
		texts[row.Text] = true
		got := r.With().Append([]byte("x"))[1:]
		var e pgproto3.ErrorResponse
		if kind := map[bool]byte{false: 'E', true: 'N'}[row.Severity == "WARNING"]; got[0] != kind || int(got[4])+int(got[3])<<8+1 != len(got) || !bytes.HasSuffix(got, []byte{0, 0}) {
			t.Errorf("%q: %q", row.Text, got)
		}
		if err := e.Decode(got[5:]); err != nil || e.Severity != row.Severity || e.SeverityUnlocalized != row.Severity || e.Code != row.Code || e.Hint != row.Hint {
			t.Errorf("%q: %v %+v", row.Text, err, e)
		}
		if !regexp.MustCompile(`^[0-9A-Z]{5}$`).MatchString(row.Code) || row.Severity != "FATAL" && row.Severity != "ERROR" && row.Severity != "WARNING" {
			t.Errorf("%q: %s %s", row.Text, row.Severity, row.Code)
		}
	}
}

// TestRefusalsComeFromTheTable: no other code makes an ErrorResponse, and every row is used with the
// arguments that its text needs.
func TestRefusalsComeFromTheTable(t *testing.T) {
	arguments := map[string]int{}
	for i, name := range refusalNames(t) {
		arguments[name] = len(pgwire.Refusals()[i].Row().Shown)
	}
	used := map[string]bool{}
	for _, dir := range []string{"worker", "supervisor", "internal", "prober", "ipc", "cmd", "scriptrunner", "console"} {
		if err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "pgtest") {
				return err
			}
			refusalsIn(t, path, arguments, used)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name := range arguments {
		if !used[name] {
			t.Errorf("no client gets %s", name)
		}
	}
}

// refusalsIn checks one file, and notes the refusals that it uses outside of the table.
func refusalsIn(t *testing.T, path string, arguments map[string]int, used map[string]bool) {
	t.Helper()
	table := strings.HasSuffix(path, "pgwire/refusals.go")
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && lastName(lit.Type) == "ErrorResponse" && !table {
			t.Errorf("%s makes an ErrorResponse of its own", path)
		}
		if e, ok := n.(ast.Expr); ok && !table {
			if _, is := arguments[lastName(e)]; is {
				used[lastName(e)] = true
			}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		with, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || with.Sel.Name != "With" {
			return true
		}
		if want, is := arguments[lastName(with.X)]; is && len(call.Args) != want {
			t.Errorf("%s: %s.With has %d arguments, want %d", path, lastName(with.X), len(call.Args), want)
		}
		return true
	})
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// refusalNames returns the names of the constants, in their order.
func refusalNames(t *testing.T) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../internal/pgwire/refusals.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			if name := s.(*ast.ValueSpec).Names[0].Name; strings.HasPrefix(name, "Refusal") {
				names = append(names, name)
			}
		}
	}
	if len(names) != len(pgwire.Refusals()) {
		t.Fatalf("%d names, %d refusals", len(names), len(pgwire.Refusals()))
	}
	return names
}
