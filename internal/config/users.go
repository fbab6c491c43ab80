package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Greatest lengths of credentials in bytes.
const (
	// MaxUserName is that of C pgagroal.
	MaxUserName = 127
	// MaxPassword is the longest password that PostgreSQL reads. Passwords may be tokens.
	MaxPassword = 65530
	// MaxOwnPassword is for the users as whom pgagroal itself looks at the servers. The passwords of several of them
	// go to the prober in one message. C pgagroal takes this length for all users.
	MaxOwnPassword = 8191
	// maxEntry is the longest line of a credential file: a name, and a password in base64.
	maxEntry = 96 << 10
)

// EncryptedEntry is one line of a credential file.
type EncryptedEntry struct {
	Name string
	Blob string // base64, see MasterKey.Decrypt
	Line int

	Column int // of Blob
}

// ParseEntries reads the text of a credential file: USER:BASE64 in each line.
func ParseEntries(file string, data []byte) ([]EncryptedEntry, []error) {
	var (
		entries []EncryptedEntry
		errs    []error
	)
	lines := map[string]int{}
	for l := range linesUpTo(maxEntry, data) {
		e, fail := parseEntry(l)
		switch {
		case fail != nil:
		case lines[e.Name] != 0:
			fail = &FileError{Msg: fmt.Sprintf("the user is there already, at line %d; delete one of them", lines[e.Name])}
		default:
			lines[e.Name] = l.no
			entries = append(entries, e)
			continue
		}
		errs = append(errs, inFile(file, l, fail))
	}
	return entries, errs
}

// parseEntry returns an entry, or what is wrong with the line. The message doesn't quote the blob.
func parseEntry(l textLine) (EncryptedEntry, *FileError) {
	if l.err != nil {
		return EncryptedEntry{}, l.fail()
	}
	text := strings.TrimLeft(l.text, ":")
	name, rest, _ := strings.Cut(text, ":")
	rest = strings.TrimLeft(rest, ":")
	blob, _, _ := strings.Cut(rest, ":")
	start := len(l.text) - len(text)
	wrong := func(offset int, msg string) (EncryptedEntry, *FileError) {
		return EncryptedEntry{}, &FileError{Column: l.column(offset), Msg: msg}
	}
	switch {
	case name == "" || blob == "":
		return wrong(0, "not USER:PASSWORD as pgagroal-admin writes it; delete the line and add the user again")
	case strings.TrimRight(name, blanks) != name:
		return wrong(start+len(strings.TrimRight(name, blanks)), "a blank before the colon would belong to the name; delete it")
	case inQuotes(name):
		return wrong(start, "the quotes around the name would belong to it; delete them")
	case len(name) > MaxUserName:
		return wrong(start, "the name is longer than 127 bytes; use a shorter one")
	}
	return EncryptedEntry{Name: name, Blob: blob, Line: l.no, Column: l.column(len(l.text) - len(rest))}, nil
}

// decryptEntries returns the credentials of entries, in their order.
func decryptEntries(file string, entries []EncryptedEntry, key *MasterKey, from KeyFile) ([]Credential, []error) {
	var (
		credentials []Credential
		errs        []error
	)
	for _, e := range entries {
		password, err := key.Decrypt(e.Blob)
		msg := ""
		if err != nil {
			msg = err.Error() + "; the key is " + from.Path + " of " + from.User + ": set the password again with pgagroal-admin user edit"
		} else {
			msg = refusePassword(password)
		}
		if msg != "" {
			errs = append(errs, &FileError{File: file, Line: e.Line, Column: e.Column, Msg: msg})
			continue
		}
		credentials = append(credentials, Credential{e.Name, password})
	}
	return credentials, errs
}

// refusePassword returns why a password can't be used, without showing it, or "".
func refusePassword(p Secret) string {
	switch text := p.Reveal(); {
	case !utf8.ValidString(text):
		return "the password is not UTF-8; set it again with pgagroal-admin user edit"
	case strings.Contains(text, "\x00"):
		return "the password holds a zero byte, which PostgreSQL can't take; set another"
	case len(text) > MaxPassword:
		return fmt.Sprintf("the password is longer than %d bytes; set a shorter one", MaxPassword)
	}
	return ""
}

// CheckCredential returns why a name and password can't be stored, or "".
func CheckCredential(name string, password Secret) string {
	switch {
	case name == "" || len(name) > MaxUserName:
		return "a user name has 1 to 127 bytes"
	case strings.ContainsRune(name, ':') || usable([]byte(name)) != nil || strings.Trim(name, blanks) != name ||
		name[0] == '#' || name[0] == ';':
		return "a user name is UTF-8 without colons and control characters, and starts with neither a blank nor # nor ;"
	case inQuotes(name):
		return "a user name in quotes is not the name without them; write it without"
	}
	return refusePassword(password)
}

// inQuotes says whether name has quotes around it, as names in the other files may have.
func inQuotes(name string) bool {
	return len(name) > 1 && strings.IndexByte(`'"`, name[0]) >= 0 && name[len(name)-1] == name[0]
}
