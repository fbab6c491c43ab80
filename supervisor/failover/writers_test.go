package failover

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestStateIsWrittenByItsOwnMethods: a type of the machine's state is written by its own methods alone, so that one file
// shows what can happen to it.
func TestStateIsWrittenByItsOwnMethods(t *testing.T) {
	own := map[string]bool{}
	for _, v := range []any{known{}, fence{}, runs{}, notify{}, runner{}, stage{}, door{}, saving{}} {
		own[reflect.TypeOf(v).Name()] = true
	}
	promoted := map[string]bool{} // fields that m has by embedding
	for _, v := range []any{stage{}, door{}} {
		for f := range reflect.TypeOf(v).Fields() {
			promoted[f.Name] = true
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set, writes := token.NewFileSet(), 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, to := range written(n) {
				writes++
				if sel, ok := to.(*ast.SelectorExpr); ok && foreignWrite(sel, own, promoted) {
					t.Errorf("%v: %s is written outside of its type's methods", set.Position(sel.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
	if writes < 100 {
		t.Errorf("only %d assignments were looked at", writes)
	}
}

// written returns what a statement assigns to.
func written(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	}
	return nil
}

// foreignWrite reports whether to is m.TYPE.field, or m.field of an embedded type.
func foreignWrite(to *ast.SelectorExpr, own, promoted map[string]bool) bool {
	switch x := to.X.(type) {
	case *ast.SelectorExpr:
		return own[x.Sel.Name]
	case *ast.Ident:
		return x.Name == "m" && promoted[to.Sel.Name]
	}
	return false
}
