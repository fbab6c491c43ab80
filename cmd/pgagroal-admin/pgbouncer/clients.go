package pgbouncer

import (
	"cmp"
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
			"a verifier or hash isn't a password, and the users file holds passwords. "+m.storedText()+
				"To share their connections, add them with pgagroal-admin user add, or set auth_query = on, which reads the verifiers from the server")
	}
}

// storedText says whether users with a verifier can log in at once.
func (m *importer) storedText() string {
	if kind := m.set["auth_type"]; kind == "hba" || kind == "any" {
		return "They can't log in (allow_unknown_users = off). "
	}
	return "They can log in all the same: the server checks them (allow_unknown_users). "
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
	m.asks = true
	m.key("pgagroal", "auth_query", "on", "auth_user", user, "")
	m.key("pgagroal", "auth_query_user", user, "auth_user", user, "")
	database := cmp.Or(m.set["auth_dbname"], config.ClientsDatabase)
	m.key("pgagroal", "auth_query_database", database, "auth_dbname", m.set["auth_dbname"], "")
	if statement != "" {
		m.key("pgagroal", "auth_query_statement", statement, "auth_query", statement, "the last column of the only row is the stored password, as there")
	}
}
