package pgbouncer

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// clientTLS says how clients connect.
func (m *importer) clientTLS() {
	mode := cmp.Or(m.set["client_tls_sslmode"], "disable")
	words := map[string]string{"disable": config.TLSOff, "allow": config.TLSAllow, "prefer": config.TLSAllow, "require": config.TLSRequire, "verify-ca": config.TLSRequire, "verify-full": config.TLSRequire}
	if m.set["client_tls_sslmode"] != "" {
		m.key("pgagroal", "tls", cmp.Or(words[mode], mode), "client_tls_sslmode", mode, "")
	}
}

// authentication writes the rules, and takes the list of users over.
func (m *importer) authentication() {
	kind := cmp.Or(m.set["auth_type"], "md5")
	switch {
	case kind == "hba":
		m.hbaFile()
	default:
		m.rules(kind)
	}
	if path := m.set["auth_ident_file"]; path != "" {
		m.key("pgagroal", "ident_file", path, "auth_ident_file", path, "the format is that of PostgreSQL")
	}
	if path := m.set["auth_file"]; path != "" && len(m.accounts) == 0 {
		m.row("auth_file", path, "", "name it as the second argument, or add its users with pgagroal-admin user add")
	}
	m.list()
	m.query()
}

// methods says what becomes of auth_type.
var methods = map[string]struct{ method, text string }{
	"trust":         {"trust", ""},
	"any":           {"trust", "clients log in to the server under their own names, whatever they are"},
	"plain":         {"password", ""},
	"md5":           {"md5", "it asks for scram-sha-256 wherever the password is known as text or as a verifier"},
	"scram-sha-256": {"scram-sha-256", ""},
	"cert":          {"cert", "pgagroal_ident.conf maps other names"},
	"pam":           {"scram-sha-256", "no counterpart: clients show the password that the server knows"},
	"ldap":          {"scram-sha-256", "no counterpart: clients show the password that the server knows"},
}

func (m *importer) rules(kind string) {
	x, ok := methods[kind]
	if !ok {
		x = methods["scram-sha-256"]
		x.text = "unknown to this program"
	}
	databases := config.All
	if len(m.names) > 0 {
		databases = config.Named(m.names...).String()
	}
	mode := m.set["client_tls_sslmode"]
	options := ""
	if mode == "verify-ca" || mode == "verify-full" {
		options = " clientcert=" + mode
	}
	if x.method == "cert" {
		options = ""
	}
	tcp := "host"
	if options != "" || x.method == "cert" {
		tcp = "hostssl"
	}
	local := x.method
	if local == "cert" {
		local = "scram-sha-256"
	}
	m.hba = []string{
		fmt.Sprintf("local %s all %s", databases, local),
		fmt.Sprintf("%s %s all all %s%s", tcp, databases, x.method, options),
	}
	shown := cmp.Or(m.set["auth_type"], "md5 (PgBouncer's default)")
	m.row("auth_type", shown, config.FileHBA+": method "+x.method, x.text)
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
	m.hba = strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	m.row("auth_hba_file", path, config.FileHBA, "its lines as they are; pgagroal -t names those that it can't take")
}

// list takes over the passwords that are known as text.
func (m *importer) list() {
	var stored []string
	for _, a := range m.accounts {
		switch {
		case strings.HasPrefix(a.secret, "SCRAM-SHA-256$"), strings.HasPrefix(a.secret, "md5") && len(a.secret) == 35:
			stored = append(stored, a.name)
		case a.secret == "":
			m.row("auth_file", a.name, "", "no password: under trust the server decides, otherwise the user can't log in")
		case config.CheckCredential(a.name, config.Secret(a.secret)) != "":
			m.row("auth_file", a.name, "", config.CheckCredential(a.name, config.Secret(a.secret)))
		default:
			m.Users = append(m.Users, config.Credential{Name: a.name, Password: config.Secret(a.secret)})
			m.row("auth_file", a.name, config.FileUsers, "")
		}
	}
	if len(stored) > 0 {
		m.row("auth_file", strings.Join(stored, ", "), "",
			"a verifier or hash isn't a password, and the users file holds passwords. They can log in all the same: the server checks them (allow_unknown_users). "+
				"To share their connections, add them with pgagroal-admin user add, or set auth_query = on, which reads the verifiers from the server")
	}
}

// query takes auth_query over, if the user that asks can be known.
func (m *importer) query() {
	statement, user := m.set["auth_query"], m.set["auth_user"]
	for _, s := range m.pairs { // the user of a database, if there is none for all
		if values, err := readConnection(s.value); err == nil && user == "" && s.section == "databases" {
			user = values["auth_user"]
		}
	}
	if user == "" {
		if statement != "" {
			m.row("auth_query", statement, "", "nobody asks: there is no auth_user")
		}
		return
	}
	if !slices.ContainsFunc(m.Users, func(u config.Credential) bool { return u.Name == user }) {
		m.row("auth_user", user, "", "its password isn't known as text: pgagroal-admin user add -U "+user+", then set auth_query = on, auth_query_user and auth_query_statement")
		return
	}
	m.key("pgagroal", "auth_query", "on", "auth_user", user, "")
	m.key("pgagroal", "auth_query_user", user, "auth_user", user, "")
	database := cmp.Or(m.set["auth_dbname"], config.ClientsDatabase)
	m.key("pgagroal", "auth_query_database", database, "auth_dbname", m.set["auth_dbname"], "")
	if statement != "" {
		m.key("pgagroal", "auth_query_statement", statement, "auth_query", statement, "the last column of the only row is the stored password, as there")
	}
}
