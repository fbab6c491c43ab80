// Package pattern compiles the regular expressions of pgagroal_hba.conf and
// pgagroal_ident.conf, whose syntax is PostgreSQL's, with Go's. It refuses the expressions
// that it knows to mean something else in PostgreSQL.
package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Compile returns an expression that matches anywhere in a name, as in PostgreSQL.
func Compile(text string) (*regexp.Regexp, error) {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if b := text[i]; b == 'b' || b == 'B' {
			return nil, fmt.Errorf(`\%c is no word boundary in PostgreSQL; write the characters that may stand there`, b)
		}
	}
	re, err := regexp.Compile("(?s)" + text) // a dot also matches a line feed, as in PostgreSQL
	var wrong *syntax.Error
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %s; back references and lookahead are not supported", wrong.Code, wrong.Expr)
	}
	return re, err
}
