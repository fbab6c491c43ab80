package layout_test

import (
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
		if g, ok := d.(*ast.GenDecl); ok {
			checkFields(t, name, g)
		}
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

func checkFields(t *testing.T, name string, g *ast.GenDecl) {
	t.Helper()
	for _, s := range g.Specs {
		spec, ok := s.(*ast.TypeSpec)
		if !ok || strings.EqualFold(spec.Name.Name, "config") {
			continue
		}
		body, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		fields := 0
		for _, f := range body.Fields.List {
			fields += max(1, len(f.Names))
		}
		if fields > maxFields {
			t.Errorf("%s: %s has %d fields, more than %d", name, spec.Name.Name, fields, maxFields)
		}
	}
}

// isTable says that a function does nothing but return one literal, or hand what
// it got to one of many by its type, a line each.
func isTable(f *ast.FuncDecl) bool {
	if len(f.Body.List) == 0 {
		return false
	}
	if s, ok := f.Body.List[len(f.Body.List)-1].(*ast.TypeSwitchStmt); ok {
		return !slices.ContainsFunc(s.Body.List, func(c ast.Stmt) bool { return len(c.(*ast.CaseClause).Body) > 1 })
	}
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
