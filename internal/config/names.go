package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pattern"
)

// All is the word for every database, user, address or method.
const All = "all"

// sameUser is the word for the database that has the same name as the user.
const sameUser = "sameuser"

// Names is a field with the databases or users that a line is for.
type Names struct {
	All      bool // the word all is in the list
	SameUser bool // the word sameuser is in the list; never for users
	List     []string
	Patterns []string // regular expressions, without their first /; only in rules
}

// Named returns a field that lists names.
func Named(names ...string) Names { return Names{List: names} }

// covers says whether the field includes the database or user called name.
func (n Names) covers(name string) bool { return n.All || slices.Contains(n.List, name) }

// String returns the field in the syntax of the files.
func (n Names) String() string {
	var words []string
	if n.All {
		words = append(words, All)
	}
	if n.SameUser {
		words = append(words, sameUser)
	}
	for _, name := range n.List {
		words = append(words, quotedName(name))
	}
	for _, p := range n.Patterns {
		words = append(words, quoteName("/"+p))
	}
	return strings.Join(words, ",")
}

// quotedName puts name in quotes if it would be read as something else without them.
func quotedName(name string) string {
	f, fail := splitFields(textLine{text: name}, ",=", plainSyntax)
	if fail == nil && len(f) == 1 && len(f[0].words) == 1 && !f[0].equals && !f[0].words[0].quoted && f[0].words[0].text == name {
		for _, kind := range []nameKind{hbaDatabase, hbaUser} {
			n, fail := kind.read(f[0].words)
			if fail != nil || n.All || n.SameUser {
				return quoteName(name)
			}
		}
		return name
	}
	return quoteName(name)
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// nameKind is what a field names.
type nameKind int

const (
	hbaDatabase   nameKind = iota // in pgagroal_hba.conf
	hbaUser                       // in pgagroal_hba.conf
	limitDatabase                 // in pgagroal_databases.conf
	limitUser                     // in pgagroal_databases.conf
)

func (k nameKind) users() bool { return k == hbaUser || k == limitUser }

// patterns says whether the field may hold regular expressions.
func (k nameKind) patterns() bool { return k == hbaDatabase || k == hbaUser }

// read returns the Names in a field. It refuses a word without quotes that is more than a name in PostgreSQL or
// PgBouncer, because here a rule for this name would apply to nobody.
func (k nameKind) read(words []word) (Names, *FileError) {
	var n Names
	for _, w := range words {
		switch {
		case !w.quoted && strings.EqualFold(w.text, All):
			n.All = true
		case !w.quoted && w.text == sameUser && k == hbaDatabase:
			n.SameUser = true
		case w.text[0] == '/' && k.patterns():
			if _, err := pattern.Compile(w.text[1:]); err != nil {
				return Names{}, w.fail("%v", err)
			}
			n.Patterns = append(n.Patterns, w.text[1:])
		default:
			if msg := k.refuse(w); msg != "" {
				return Names{}, w.fail("%s", msg)
			}
			n.List = append(n.List, w.text)
		}
	}
	return n, nil
}

// refuse returns why a word can't be a name, or "".
func (k nameKind) refuse(w word) string {
	what := "databases"
	if k.users() {
		what = "users"
	}
	switch {
	case w.text[0] == '/':
		return fmt.Sprintf("regular expressions aren't known here; write the %s, with commas between them", what)
	case w.quoted:
		return ""
	case w.text[0] == '@':
		return fmt.Sprintf("files of names aren't read here; write the %s, with commas between them", what)
	case w.text[0] == '+':
		return "pgagroal doesn't know who is a member of a role; write the users, with commas between them"
	case strings.Contains(w.text, "*"):
		return "the * means nothing here; write all, or put a name that holds it in double quotes"
	case !k.users():
		return refuseKeyword(w.text)
	}
	return ""
}

// refuseKeyword returns why a word without quotes can't be the name of a database, because it
// is a keyword of PostgreSQL, or "".
func refuseKeyword(text string) string {
	switch strings.ToLower(text) {
	case "samerole", "samegroup":
		return fmt.Sprintf("pgagroal doesn't know who is a member of a role, which %s asks for; write the databases, with commas between them, or a database of that name in double quotes", text)
	case sameUser:
		return fmt.Sprintf("%s isn't known here; %s is a word of %s; put a database of that name in double quotes", text, sameUser, FileHBA)
	case "replication":
		return "pgagroal refuses replication connections itself; delete the line, or put a database of that name in double quotes"
	}
	return ""
}
