package config

import (
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pattern"
)

// IdentLine is one line of pgagroal_ident.conf.
type IdentLine struct {
	Map    string
	System string // the name in the client's certificate, or / and a regular expression
	// User says which users the client may log in as: a name, in which \1 may stand for the first group of System, or /
	// and a regular expression.
	User    string
	AnyUser bool // User is the word all
	Literal bool // User was in quotes
	File    string
	Line    int
}

const identForm = "write MAP SYSTEM-NAME PG-USER, each in double quotes if it holds blanks"

// ParseIdent reads the text of pgagroal_ident.conf and the files that it refers to: MAP SYSTEM-NAME PG-USER.
func ParseIdent(file string, data []byte) ([]IdentLine, []error) {
	return parseIdent(file, data, plainReader)
}

func parseIdent(file string, data []byte, read fileReader) ([]IdentLine, []error) {
	var lines []IdentLine
	r := ruleReader{read: read, syntax: identSyntax, rule: func(_ *ruleReader, l ruleLine) *FileError {
		line, fail := parseIdentLine(l)
		if fail == nil && len(lines) >= maxRules {
			return l.fields[0].fail("more than %d lines; write one with a regular expression for many", maxRules)
		}
		if fail == nil {
			lines = append(lines, line)
		}
		return fail
	}}
	r.text(file, data, 0)
	return lines, r.errs
}

func parseIdentLine(l ruleLine) (IdentLine, *FileError) {
	f := l.fields
	for _, one := range f {
		if len(one.words) > 1 {
			return IdentLine{}, one.words[1].fail("a list of names; write a line for each")
		}
	}
	switch {
	case len(f) < 3:
		return IdentLine{}, &FileError{Msg: "fewer than three fields; " + identForm}
	case len(f) > 3:
		return IdentLine{}, f[3].fail("more than three fields; %s", identForm)
	}
	system, user := f[1].words[0], f[2].words[0]
	line := IdentLine{
		Map: f[0].words[0].text, System: system.text, User: user.text, Literal: user.quoted,
		AnyUser: user.text == All && !user.quoted, File: l.file, Line: l.no,
	}
	groups := 0
	if text, ok := strings.CutPrefix(system.text, "/"); ok {
		re, err := pattern.Compile(text)
		if err != nil {
			return IdentLine{}, system.fail("%v", err)
		}
		groups = re.NumSubexp()
	}
	return line, checkIdentUser(user, groups, system.text[0] == '/')
}

// checkIdentUser checks the third field of a line. expression says whether the second field is a regular expression, and
// groups how many groups it has.
func checkIdentUser(user word, groups int, expression bool) *FileError {
	text, isPattern := strings.CutPrefix(user.text, "/")
	switch {
	case isPattern:
		if _, err := pattern.Compile(text); err != nil {
			return user.fail("%v", err)
		}
	case !user.quoted && user.text[0] == '+':
		return user.fail("pgagroal doesn't know who is a member of a role; write a line for each user")
	case expression && groups == 0 && strings.Contains(user.text, `\1`):
		return user.fail(`\1 stands for the first group of the regular expression, which has none; write one in parentheses`)
	}
	return nil
}
