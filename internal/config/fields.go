package config

import (
	"fmt"
	"strings"
	"unicode"
)

// word is one word of a line. A word in double quotes is always a name, even if it reads
// like a keyword.
type word struct {
	text   string
	quoted bool
	file   string // the file of names that the word comes from; empty for the file of the line
	line   int    // from 1
	column int    // of its first character, from 1
}

// fail returns a problem of the word.
func (w word) fail(format string, args ...any) *FileError {
	return &FileError{File: w.file, Line: w.line, Column: w.column, Msg: fmt.Sprintf(format, args...)}
}

// field is the text between two blanks: a list of words separated by commas, perhaps with a second list after an =.
type field struct {
	words  []word
	equals bool
	after  []word // the list after the =
}

// sole returns the only word of a field; ok is false for a list and for a word in quotes.
func (f field) sole() (text string, ok bool) {
	if len(f.words) != 1 || f.equals || f.words[0].quoted {
		return f.words[0].text, false
	}
	return f.words[0].text, true
}

func (f field) column() int { return f.words[0].column }

// fail returns a problem of the whole field.
func (f field) fail(format string, args ...any) *FileError { return f.words[0].fail(format, args...) }

// fieldSplitter cuts a line into fields as PostgreSQL cuts a line of pg_hba.conf. It refuses text that
// PostgreSQL, a shell or an editor would read differently.
type fieldSplitter struct {
	line       textLine
	separators string // the comma, and the = in files where it has a meaning
	syntax     syntax
	at         int // offset in line.text
	fields     []field
	joint      int // offset after a separator, so that the next word belongs to the last field; 0 for none
}

// syntax says which file a line comes from, because some characters mean different things in different files.
type syntax int

const (
	plainSyntax syntax = iota
	hbaSyntax          // a word that begins with / is a regular expression, one that begins with @ a file
	identSyntax        // like hbaSyntax, and a \ may stand in any word
)

// splitFields returns the fields of a line; each has at least one word. Blanks around separators don't count. A comment
// may follow after a blank.
func splitFields(l textLine, separators string, syntax syntax) ([]field, *FileError) {
	s := fieldSplitter{line: l, separators: separators, syntax: syntax}
	for s.skipBlanks() {
		var fail *FileError
		switch c := s.line.text[s.at]; {
		case strings.IndexByte(s.separators, c) >= 0:
			fail = s.separator(c)
		case c == '"':
			fail = s.quoted()
		default:
			fail = s.bare()
		}
		if fail != nil {
			return nil, fail
		}
	}
	if s.joint > 0 {
		return nil, s.fail(s.joint-1, "the line ends in a separator; write the name that is missing, or delete it")
	}
	return s.fields, nil
}

// skipBlanks moves past blanks and says whether anything but a comment follows.
func (s *fieldSplitter) skipBlanks() bool {
	rest := strings.TrimLeft(s.line.text[s.at:], blanks)
	s.at = len(s.line.text) - len(rest)
	return rest != "" && rest[0] != '#' && rest[0] != ';'
}

// fail returns a problem at an offset of the line.
func (s *fieldSplitter) fail(at int, format string, args ...any) *FileError {
	line, column := s.line.place(at)
	return &FileError{Line: line, Column: column, Msg: fmt.Sprintf(format, args...)}
}

func (s *fieldSplitter) separator(c byte) *FileError {
	switch {
	case len(s.fields) == 0 || s.joint > 0:
		return s.fail(s.at, "an empty name before the %c; write the name, or delete the %c", c, c)
	case c == '=' && s.last().equals:
		return s.fail(s.at, "a second = ; PgBouncer's form isn't known here: servers are sections of %s", FileConfig)
	case c == '=':
		s.last().equals = true
	}
	s.at++
	s.joint = s.at
	return nil
}

func (s *fieldSplitter) last() *field { return &s.fields[len(s.fields)-1] }

func (s *fieldSplitter) add(text string, quoted bool, at int) {
	if s.joint == 0 {
		s.fields = append(s.fields, field{})
	}
	s.joint = 0
	line, column := s.line.place(at)
	f, w := s.last(), word{text: text, quoted: quoted, line: line, column: column}
	if f.equals {
		f.after = append(f.after, w)
		return
	}
	f.words = append(f.words, w)
}

// quoted reads a word in double quotes; a double quote inside it is written twice.
func (s *fieldSplitter) quoted() *FileError {
	start := s.at
	name, fail := s.inQuotes()
	if fail == nil {
		s.add(name, true, start)
	}
	return fail
}

// inQuotes returns the text in double quotes and moves past it.
func (s *fieldSplitter) inQuotes() (string, *FileError) {
	text, start := s.line.text, s.at
	end := start + 1
	for ; end < len(text); end++ {
		if text[end] != '"' {
			continue
		}
		if !strings.HasPrefix(text[end:], `""`) {
			break
		}
		end++
	}
	switch {
	case end == start+1:
		return "", s.fail(start, "an empty name in quotes; write the name")
	case end >= len(text):
		return "", s.fail(start, `the quote " is never closed; close it at the end of the name`)
	case end+1 < len(text) && strings.IndexByte(blanks+s.separators, text[end+1]) < 0:
		return "", s.fail(end+1, "more text right behind the closing quote; write a blank or a comma there, or put the whole name in quotes")
	}
	s.at = end + 1
	return strings.ReplaceAll(text[start+1:end], `""`, `"`), nil
}

// quotedFile reads @"FILE". Only the name of the file is in quotes, because a word that begins with a quote is a name.
func (s *fieldSplitter) quotedFile() *FileError {
	start := s.at
	s.at++
	name, fail := s.inQuotes()
	if fail == nil {
		s.add("@"+name, false, start)
	}
	return fail
}

// bare reads a word without quotes.
func (s *fieldSplitter) bare() *FileError {
	text, start := s.line.text, s.at
	if s.syntax != plainSyntax && strings.HasPrefix(text[start:], `@"`) {
		return s.quotedFile()
	}
	end := start + strings.IndexAny(text[start:]+" ", blanks+s.separators)
	backslash := s.syntax == identSyntax || s.syntax == hbaSyntax && text[start] == '/'
	for i, r := range text[start:end] {
		if r == '\\' && backslash {
			continue
		}
		if msg := strangeRune(r, i == 0); msg != "" {
			return s.fail(start+i, "%s", msg)
		}
	}
	s.add(text[start:end], false, start)
	s.at = end
	return nil
}

// strangeRune returns why a character is refused in a word without quotes, or "". It refuses characters whose meaning
// would be a guess.
func strangeRune(r rune, first bool) string {
	switch {
	case r == '"':
		return "a quote inside a word; put the whole name in double quotes"
	case first && r == '\'':
		return "single quotes mean nothing here; put the name in double quotes"
	case typographic(r):
		return fmt.Sprintf(`the typographic quote %c; write "`, r)
	case r == '#':
		return "a # inside a word; put a blank before a comment, or the name in double quotes"
	case r == '\\':
		return `a \ inside a word; put a name that holds it in double quotes, and nothing after a \ that continues the line`
	case unicode.IsSpace(r):
		return fmt.Sprintf("the unusual blank %U; write an ordinary blank, or put the name in double quotes", r)
	}
	return ""
}

// typographic says whether r is a quotation mark of the kind that word processors and
// web pages put in place of ' and ".
func typographic(r rune) bool { return strings.ContainsRune("“”„‟‘’‚‛«»", r) }
