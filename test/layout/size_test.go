package layout_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Greatest sizes of code that isn't a test, in lines.
const (
	maxFile     = 600
	maxFunction = 60
	maxFields   = 30 // of a struct's own, configuration excepted
	maxBefore   = 10 // before the switch of a table
)

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	files, functions := 0, 0
	for _, p := range packages(t) {
		for _, name := range append(p.GoFiles, p.CgoFiles...) {
			files++
			functions += checkFile(t, p, filepath.Join(p.Dir, name))
		}
	}
	if files < 50 || functions < 500 {
		t.Errorf("only %d files with %d functions seen", files, functions)
	}
}

// checkFile returns how many functions it has looked at.
func checkFile(t *testing.T, p pkg, path string) int {
	t.Helper()
	wrong, count, err := tooLarge(path, nil)
	if err != nil {
		t.Error(err)
	}
	for _, w := range wrong {
		t.Errorf("%s: %s", filepath.Join(p.path(), filepath.Base(path)), w)
	}
	return count
}

// tooLarge returns what is too large in a file, and the number of its functions. It looks
// into functions as well: a type may be declared there, and a variable may hold a function.
// The text of the file is src unless that is nil.
func tooLarge(path string, src any) (wrong []string, functions int, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, 0, err
	}
	tf := set.File(file.FileStart)
	lines := func(n ast.Node) int { return tf.Line(n.End()) - tf.Line(n.Pos()) + 1 }
	say := func(what string, n, most int) {
		if n > most {
			wrong = append(wrong, fmt.Sprintf("%s: %d, more than %d", what, n, most))
		}
	}
	if !onlyTables(file, lines) {
		say("lines of the file", tf.LineCount(), maxFile)
	}
	configuration := map[*ast.StructType]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if functions++; n.Body != nil && !isTable(n.Body, lines) {
				say("lines of "+n.Name.Name, lines(n), maxFunction)
			}
		case *ast.FuncLit:
			if !isTable(n.Body, lines) {
				say("lines of a function without a name", lines(n), maxFunction)
			}
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok && strings.EqualFold(n.Name.Name, "config") {
				configuration[s] = true
			}
		case *ast.StructType:
			if !configuration[n] {
				say("fields of a struct", ownFields(n), maxFields)
			}
		}
		return true
	})
	return wrong, functions, nil
}

// ownFields counts the fields of a struct, and those of structs without a name in it.
func ownFields(s *ast.StructType) int {
	fields := 0
	for _, f := range s.Fields.List {
		n := 1
		if inner, ok := f.Type.(*ast.StructType); ok {
			n = ownFields(inner)
		}
		fields += n * max(1, len(f.Names))
	}
	return fields
}

// isTable says that a function does nothing but return one literal that holds no long
// function, or hand what it got to one of many by its type, a line each.
func isTable(body *ast.BlockStmt, lines func(ast.Node) int) bool {
	if len(body.List) == 0 {
		return false
	}
	last := body.List[len(body.List)-1]
	if s, ok := last.(*ast.TypeSwitchStmt); ok {
		before := lines(body) - lines(s) - 2 // the braces of the function aside
		return before <= maxBefore && !slices.ContainsFunc(s.Body.List, func(c ast.Stmt) bool {
			does := c.(*ast.CaseClause).Body
			return len(does) > 1 || len(does) == 1 && lines(does[0]) > 1
		})
	}
	r, ok := last.(*ast.ReturnStmt)
	if !ok || len(body.List) != 1 || len(r.Results) != 1 {
		return false
	}
	_, ok = r.Results[0].(*ast.CompositeLit)
	return ok
}

// onlyTables says that a file holds functions of that kind and nothing else.
func onlyTables(file *ast.File, lines func(ast.Node) int) bool {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && (f.Body == nil || !isTable(f.Body, lines)) {
			return false
		}
	}
	return true
}

// TestSizesAreChecked gives the check what it must refuse, and what it must let pass.
func TestSizesAreChecked(t *testing.T) {
	long := strings.Repeat("\tg()\n", maxFunction)
	fields := strings.Repeat("\tf int\n", maxFields)
	cases := strings.Repeat("\tcase int:\n\t\tg()\n", maxFunction)
	for src, refused := range map[string]bool{
		"func f() {\n" + long + "}":                                                           true,
		"func f() {\n" + long[:len(long)-10] + "}":                                            false,
		"var f = func() {\n" + long + "}":                                                     true,
		"func f() []func() {\n\treturn []func(){func() {\n" + long + "}}\n}":                  true,
		"func f() []int {\n\treturn []int{\n" + strings.Repeat("\t1,\n", 70) + "}\n}":         false,
		"func f(x any) {\n\tswitch x.(type) {\n" + cases + "}\n}":                             false,
		"func f(x any) {\n" + long + "\tswitch x.(type) {\n" + cases + "}\n}":                 true,
		"func f(x any) {\n\tswitch x.(type) {\n\tcase int:\n\tif true {\n" + long + "}\n}\n}": true,
		"type s struct {\n" + fields + "}":                                                    false,
		"type s struct {\n" + fields + "\tg int\n}":                                           true,
		"type s struct {\n" + fields + "\tio.Reader\n}":                                       true,
		"type s struct {\n\tin struct {\n" + fields + "}\n\tg int\n}":                         true,
		"func f() {\n\ttype s struct {\n" + fields + "\tg int\n}\n}":                          true,
		"var s struct {\n" + fields + "\tg int\n}":                                            true,
		"type Config struct {\n" + fields + "\tg int\n}":                                      false,
		strings.Repeat("var _ = 1\n", maxFile) + "func f() {\n\tg()\n}":                       true,
	} {
		wrong, _, err := tooLarge("x.go", "package x\n"+src)
		if err != nil {
			t.Fatalf("%v in\n%s", err, src)
		}
		if (len(wrong) > 0) != refused {
			t.Errorf("refused: %q, want %v, of\n%s", wrong, refused, src)
		}
	}
}
