package pgbouncer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setting is one line of an ini file.
type setting struct {
	section, key, value string
}

// deepest is how many files may include one another.
const deepest = 10

// readINI reads a file and those that it includes, which go on in the same section. A comment begins at the start of a line;
// whatever follows the = is the value.
func readINI(path, section string, depth int) ([]setting, error) {
	if depth > deepest {
		return nil, fmt.Errorf("%s: more than %d files include one another", path, deepest)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []setting
	no := 0
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		no++
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
			continue
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		if name, ok := strings.CutPrefix(line, "%include"); ok {
			name = strings.TrimSpace(name)
			if !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(path), name)
			}
			more, err := readINI(name, section, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, no, err)
			}
			if list = append(list, more...); len(more) > 0 {
				section = more[len(more)-1].section
			}
			continue
		}
		s, err := readSetting(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, no, err)
		}
		if s.section = section; section == "" {
			return nil, fmt.Errorf("%s:%d: it stands before any section; is this an ini file of PgBouncer?", path, no)
		}
		list = append(list, s)
	}
	return list, nil
}

// readSetting reads NAME = VALUE, of which the name may be in double quotes.
func readSetting(line string) (setting, error) {
	if line[0] == '"' {
		name, rest, ok := cutQuoted(line, '"')
		value, equals := strings.CutPrefix(strings.TrimSpace(rest), "=")
		if !ok || !equals {
			return setting{}, errors.New(`not "NAME" = VALUE`)
		}
		return setting{key: name, value: strings.TrimSpace(value)}, nil
	}
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return setting{}, errors.New("not NAME = VALUE")
	}
	return setting{key: strings.TrimSpace(key), value: strings.TrimSpace(value)}, nil
}

// cutQuoted returns the text in quotes at the start of s, in which a quote is written twice, and what follows.
func cutQuoted(s string, quote byte) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) || s[i+1] != quote {
			return b.String(), s[i+1:], true
		}
		b.WriteByte(quote)
		i++
	}
	return "", "", false
}

// readConnection reads the value of a database or user: name=value with blanks between, values perhaps in single quotes.
func readConnection(text string) (map[string]string, error) {
	values := map[string]string{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("no = behind %d words", len(values))
		}
		key, rest = strings.TrimSpace(key), strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(rest, "'") {
			if values[key], text, ok = cutQuoted(rest, '\''); !ok {
				return nil, fmt.Errorf("the quote of %s is never closed", key)
			}
			continue
		}
		end := strings.IndexAny(rest+" ", " \t")
		values[key], text = rest[:end], rest[end:]
	}
	return values, nil
}

// account is a line of the list of users.
type account struct{ name, secret string }

// readAccounts reads userlist.txt: "NAME" "SECRET", and perhaps more.
func readAccounts(path string) ([]account, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []account
	no := 0
	for line := range strings.Lines(string(data)) {
		no++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		name, rest, ok := "", "", line[0] == '"'
		if ok {
			name, rest, ok = cutQuoted(line, '"')
		}
		rest = strings.TrimSpace(rest)
		if !ok || !strings.HasPrefix(rest, `"`) {
			return nil, fmt.Errorf(`%s:%d: not "NAME" "PASSWORD"`, path, no)
		}
		secret, _, ok := cutQuoted(rest, '"')
		if !ok {
			return nil, fmt.Errorf(`%s:%d: the last quote is missing`, path, no)
		}
		list = append(list, account{name, secret})
	}
	return list, nil
}
