// Package pattern compiles the regular expressions of pgagroal_hba.conf and pgagroal_ident.conf, which are written as
// PostgreSQL's. It refuses an expression that would mean something else there.
package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Compile returns the expression, which matches anywhere in a name unless ^ and $ say otherwise.
func Compile(text string) (*regexp.Regexp, error) {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if b := text[i]; b == 'b' || b == 'B' {
			return nil, fmt.Errorf(`PostgreSQL reads \%c as something else than a word's boundary; write the characters that stand there`, b)
		}
	}
	re, err := regexp.Compile("(?s)" + text) // as in PostgreSQL a . is also a line feed
	var wrong *syntax.Error
	if errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: %s; write an expression without back references and looking ahead", wrong.Code, wrong.Expr)
	}
	return re, err
}
