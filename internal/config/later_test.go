package config

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// idle are keys whose fields the code reads although they have no effect yet.
var idle = map[string]string{}

// TestLaterIsTrue compares the Later marks with the code. A key counts as in effect if code
// reads its field.
func TestLaterIsTrue(t *testing.T) {
	here, elsewhere := map[string]bool{}, map[string]bool{}
	root := filepath.Join("..", "..")
	for _, dir := range []string{"cmd", "supervisor", "worker", "scriptrunner"} {
		reads(t, filepath.Join(root, dir), elsewhere)
	}
	reads(t, ".", here)
	c, s := New(), newServer("x", "f", 1)
	for _, r := range Keys() {
		name := ""
		if r.Section == MainSection {
			name = fieldAt(t, c, r.main(c))
		} else {
			name = fieldAt(t, &s, r.server(&s))
		}
		switch {
		case r.Inert && (r.Later || here[name] || elsewhere[name]):
			t.Errorf("%s: the table says that it has no effect; read: %v", r.Name, here[name] || elsewhere[name])
		case r.Inert:
		case !r.Later && !here[name] && !elsewhere[name]:
			t.Errorf("%s: nothing reads %s, and the table doesn't say so", r.Name, name)
		case r.Later && elsewhere[name] != (idle[r.Name] != ""):
			t.Errorf("%s: is it in effect? The table says no; read outside of this package: %v", r.Name, elsewhere[name])
		}
	}
}

// reads adds the field names that the code below dir selects, except in tests and
// tables.
func reads(t *testing.T, dir string, names map[string]bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		base := filepath.Base(path)
		if err != nil || d.IsDir() || !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "table_") {
			return err
		}
		f, err := goparser.ParseFile(token.NewFileSet(), path, nil, goparser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if x, ok := n.(*ast.SelectorExpr); ok {
				names[x.Sel.Name] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fieldAt names the field of a struct that p points to.
func fieldAt(t *testing.T, of, p any) string {
	t.Helper()
	v := reflect.ValueOf(of).Elem()
	for i := range v.NumField() {
		if v.Field(i).Addr().Pointer() == reflect.ValueOf(p).Pointer() && v.Field(i).Type() == reflect.TypeOf(p).Elem() {
			return v.Type().Field(i).Name
		}
	}
	t.Fatalf("%T points to no field", p)
	return ""
}

func TestSampleSaysWhatEachKeyIs(t *testing.T) {
	main, server, _ := strings.Cut(sample(t), "\n[primary]\n")
	for _, r := range Keys() {
		part := main
		if r.Section == ServerSection {
			part = server
		}
		want := "\n# " + r.Help
		if len(r.Values) > 0 {
			want += " (" + strings.Join(r.Values, ", ") + ")"
		}
		if r.Inert {
			want += " [without effect]"
		}
		if r.Later {
			want += " [not yet in effect]"
		}
		if !strings.Contains(part, want+"\n#"+r.Name+" =") && !strings.Contains(part, want+"\n"+r.Name+" =") {
			t.Errorf("%s: the sample doesn't say before it:%s", r.Name, want)
		}
	}
}
