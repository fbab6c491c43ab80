package pgbouncer

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// authentication takes the list of users over, and writes the rules.
func (m *importer) authentication() {
	kind := cmp.Or(m.set["auth_type"], "md5")
	if path := m.set["auth_ident_file"]; path != "" {
		m.key("pgagroal", "ident_file", path, "auth_ident_file", path, "the format is that of PostgreSQL")
	}
	if path := m.set["auth_file"]; path != "" && len(m.accounts) == 0 {
		m.row("auth_file", path, "", "name it as the second argument, or add its users with pgagroal-admin user add")
	}
	m.list()
	m.query()
	switch kind {
	case "hba":
		m.hbaFile()
		m.unknown(kind, nil)
	default:
		m.rules(kind)
	}
}

// methods says what becomes of auth_type.
var methods = map[string]struct{ method, text string }{
	"trust":         {"trust", ""},
	"any":           {"scram-sha-256", "no counterpart: there everybody is the user of the database; here clients log in under their own names, with a password"},
	"plain":         {"password", ""},
	"md5":           {"md5", "it asks for scram-sha-256 wherever the password is known as text or as a verifier"},
	"scram-sha-256": {"scram-sha-256", ""},
	"cert":          {"cert", "pgagroal_ident.conf maps other names"},
	"pam":           {"scram-sha-256", byServer},
	"ldap":          {"scram-sha-256", byServer},
}

const byServer = "no counterpart: the server decides who may log in (allow_unknown_users). See that its pg_hba.conf trusts no connection from here"

func (m *importer) rules(kind string) {
	x, ok := methods[kind]
	switch {
	case !ok:
		x = methods["scram-sha-256"]
		x.text = "unknown to this program"
	case kind == "trust" && len(m.listed) == 0:
		x = methods["scram-sha-256"]
		x.text = "trust is for the users of auth_file, which wasn't named, so that nobody is trusted"
	}
	databases := config.All
	if len(m.names) > 0 {
		databases = config.Named(m.names...).String()
	}
	options := ""
	if mode := m.certificates(); mode != "" && x.method != "cert" {
		options = " clientcert=" + mode
	}
	tcp := "host"
	if options != "" || x.method == "cert" {
		tcp = "hostssl"
	}
	users := []string{config.All}
	if bare := m.bare(kind); x.method == "trust" || len(bare) > 0 {
		users = m.column(kind)
		m.unknown(kind, bare)
	} else {
		m.unknown(kind, nil)
	}
	for _, u := range users {
		if x.method != "cert" { // which nobody has behind a Unix socket
			m.hba = append(m.hba, fmt.Sprintf("local %s %s %s", databases, u, x.method))
		}
		m.hba = append(m.hba, fmt.Sprintf("%s %s %s all %s%s", tcp, databases, u, x.method, options))
	}
	shown := cmp.Or(m.set["auth_type"], "md5 (PgBouncer's default)")
	m.row("auth_type", shown, config.FileHBA+": method "+x.method, x.text)
}

// certificates returns verify-ca or verify-full if every client over TCP has to show a certificate, otherwise nothing.
func (m *importer) certificates() string {
	if mode := m.set["client_tls_sslmode"]; mode == "verify-ca" || mode == "verify-full" {
		return mode
	}
	return ""
}

// bare returns the users of the list who can log in there, and whose password isn't known here as text.
func (m *importer) bare(kind string) []string {
	if m.asks || kind == "any" {
		return nil
	}
	var names []string
	for _, a := range m.listed {
		known := slices.ContainsFunc(m.Users, func(u config.Credential) bool { return u.Name == a.name })
		if !known && admitted(kind, a) {
			names = append(names, a.name)
		}
	}
	return names
}

// admitted reports whether PgBouncer lets a user of the list in.
func admitted(kind string, a account) bool {
	return a.secret != "" || kind == "trust" || kind == "cert"
}

// mostNames is how many users a rule names.
const mostNames = 100

// column returns the users of the list, as columns of as many rules.
func (m *importer) column(kind string) []string {
	var names, columns []string
	for _, a := range m.listed {
		if admitted(kind, a) {
			names = append(names, a.name)
		}
	}
	for part := range slices.Chunk(names, mostNames) {
		columns = append(columns, config.Named(part...).String())
	}
	return columns
}

// unknown says whether the server may let in users whose password isn't known here. A server that trusts its PgBouncer would
// let everybody in. bare are those who need that; the rules then name who may log in.
func (m *importer) unknown(kind string, bare []string) {
	switch {
	case kind == "pam", kind == "ldap": // told with the method
	case len(bare) > 0:
		m.row("auth_file", "", config.FileHBA+": its users by name",
			"the server alone checks "+strings.Join(bare, ", ")+": see that its pg_hba.conf asks for their passwords also from here. "+
				"A user who is added later needs a place in the rules")
	default:
		m.key("pgagroal", "allow_unknown_users", "off", "auth_file", m.set["auth_file"],
			"who isn't in the users file can't log in, as there; on would leave that to the server")
	}
}

// hbaFile takes the rules of a file over, which has the format of PostgreSQL there and here.
func (m *importer) hbaFile() {
	path := m.set["auth_hba_file"]
	data, err := os.ReadFile(path)
	if err != nil {
		m.hba = []string{"host all all all scram-sha-256"}
		m.row("auth_hba_file", path, config.FileHBA+": one line for all", fmt.Sprintf("it can't be read (%v): put its lines there", err))
		return
	}
	changed := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\r\n")
		mine := m.hbaLine(path, line)
		changed = changed || !slices.Equal(mine, []string{line})
		m.hba = append(m.hba, mine...)
	}
	text := "its lines as they are"
	if changed {
		text = "its lines, with the databases of the section [databases], and with what client_tls_sslmode asks of clients"
	}
	m.row("auth_hba_file", path, config.FileHBA, text+"; pgagroal -t names those that it can't take")
}

// hbaLine returns what becomes of a line. A rule there is only about what the other settings allow, too: databases of the
// section [databases], users of the list, and clients with a certificate if all need one.
func (m *importer) hbaLine(path, line string) []string {
	rules, errs := config.ParseHBA(path, []byte(line))
	if len(errs) > 0 || len(rules) == 0 {
		return []string{line} // a comment, or one that pgagroal refuses
	}
	var list []string
	for _, r := range rules {
		was := hbaText(r)
		if !m.narrow(&r) {
			list = append(list, "# without effect in PgBouncer: "+line)
			continue
		}
		if hbaText(r) == was && len(rules) == 1 {
			return []string{line}
		}
		list = append(list, hbaText(r))
	}
	return list
}

// narrow makes a rule as narrow as it is there. It returns false if the rule lets nobody in.
func (m *importer) narrow(r *config.HBARule) bool {
	if r.Method == "reject" {
		return true
	}
	switch d := &r.Database; {
	case len(m.names) == 0: // every database
	case d.All:
		*d = config.Named(m.names...)
	default:
		d.List = slices.DeleteFunc(slices.Clone(d.List), func(name string) bool { return !slices.Contains(m.names, name) })
		if len(d.List) == 0 && len(d.Patterns) == 0 && !d.SameUser {
			return false
		}
	}
	if r.Method == "trust" && r.User.All && len(m.listed) > 0 && len(m.listed) <= mostNames {
		var names []string
		for _, a := range m.listed {
			names = append(names, a.name)
		}
		r.User = config.Named(names...)
	}
	if mode := m.certificates(); mode != "" && r.Type != "local" {
		if r.Type == "hostnossl" {
			return false
		}
		r.Type = "hostssl"
		if r.Method != "cert" {
			r.ClientCert = mode
		}
	}
	return true
}

// hbaText returns a rule as a line.
func hbaText(r config.HBARule) string {
	words := []string{r.Type, r.Database.String(), r.User.String(), r.Address, r.Method}
	for _, o := range [][2]string{{"clientcert", r.ClientCert}, {"clientname", r.ClientName}, {"map", r.Map}} {
		if o[1] != "" {
			words = append(words, o[0]+"="+o[1])
		}
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
