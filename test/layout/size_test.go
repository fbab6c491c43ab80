package layout_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// Greatest sizes of code that isn't a test, in lines.
const (
	maxFile     = 600
	maxFunction = 100
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
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return 0
	}
	name := filepath.Join(p.path(), filepath.Base(path))
	tf := set.File(file.FileStart)
	if n := tf.LineCount(); n > maxFile && !onlyTables(file) {
		t.Errorf("%s has %d lines, more than %d", name, n, maxFile)
	}
	count := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		count++
		if n := tf.Line(f.End()) - tf.Line(f.Pos()) + 1; n > maxFunction && !isTable(f) {
			t.Errorf("%s: %s has %d lines, more than %d", name, f.Name.Name, n, maxFunction)
		}
	}
	return count
}

// isTable says that a function does nothing but return one literal.
func isTable(f *ast.FuncDecl) bool {
	if len(f.Body.List) != 1 {
		return false
	}
	r, ok := f.Body.List[0].(*ast.ReturnStmt)
	if !ok || len(r.Results) != 1 {
		return false
	}
	_, ok = r.Results[0].(*ast.CompositeLit)
	return ok
}

// onlyTables says that a file holds functions of that kind and nothing else.
func onlyTables(file *ast.File) bool {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && !isTable(f) {
			return false
		}
	}
	return true
}
