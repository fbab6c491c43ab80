package pgbouncer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// anyDatabase is the name of the entry for all databases without one.
const anyDatabase = "*"

// socketDirectory is where PgBouncer looks for a server without host, as Debian's does.
const socketDirectory = "/var/run/postgresql"

// database is an entry of the section [databases].
type database struct {
	name   string
	values map[string]string
	host   string // the first one of a list
	port   string
}

// real returns the name of the database at the server.
func (d database) real() string { return cmp.Or(d.values["dbname"], d.name) }

func (m *importer) databases() error {
	var list []database
	for _, s := range m.pairs {
		if s.section != "databases" {
			continue
		}
		values, err := readConnection(s.value)
		if err != nil {
			return fmt.Errorf("[databases] %s: %w", s.key, err)
		}
		host, _, _ := strings.Cut(values["host"], ",")
		list = append(list, database{name: s.key, values: values, host: cmp.Or(host, socketDirectory), port: cmp.Or(values["port"], "5432")})
	}
	m.server(list)
	for _, d := range list {
		m.entry(d)
	}
	m.aliases(list)
	return m.users()
}

// server writes the section of the server that most databases are on, and says what becomes of the others.
func (m *importer) server(list []database) {
	if len(list) == 0 {
		list = []database{{host: socketDirectory, port: "5432"}}
		m.row("databases", "", "", "there is none: correct host and port of the server, here "+socketDirectory)
	}
	count := map[string]int{}
	main := list[0]
	for _, d := range list {
		at := d.host + ":" + d.port
		if count[at]++; count[at] > count[main.host+":"+main.port] {
			main = d
		}
	}
	from := "databases." + cmp.Or(main.name, "(none)")
	m.key(m.section, "host", main.host, from, "", "")
	m.key(m.section, "port", main.port, from, "", "")
	m.serverTLS(main)
	for _, d := range list {
		if d.host != main.host || d.port != main.port {
			m.row("databases."+d.name, "host="+d.host+" port="+d.port, "",
				"another server than most databases have. If it is a standby of it, add a section with host and port: pgagroal finds the primary by itself, and all clients go there. "+
					"If it is another cluster, run a second pgagroal for it")
		}
		if _, more, _ := strings.Cut(d.values["host"], ","); more != "" {
			m.row("databases."+d.name, "host="+d.values["host"], "", "only the first host was taken; add a section for each standby among the others")
		}
	}
}

func (m *importer) serverTLS(main database) {
	mode := cmp.Or(m.set["server_tls_sslmode"], "prefer")
	shown := cmp.Or(m.set["server_tls_sslmode"], "prefer (PgBouncer's default)")
	words := map[string]string{
		"disable": config.TLSOff, "allow": config.TLSPrefer, "prefer": config.TLSPrefer, "require": config.TLSRequire,
		"verify-ca": config.TLSVerifyCA, "verify-full": config.TLSVerifyFull,
	}
	if strings.HasPrefix(main.host, "/") {
		m.row("server_tls_sslmode", shown, "", notNeeded+"the server is behind a Unix socket")
		return
	}
	m.key(m.section, "tls", cmp.Or(words[mode], mode), "server_tls_sslmode", shown, "")
	for _, what := range []string{"ca", "cert", "key"} {
		name := "server_tls_" + what + "_file"
		if path := m.set[name]; path != "" && mode != "disable" {
			m.key(m.section, "tls_"+what+"_file", path, name, path, "")
		}
	}
}

// forced are the words of an entry without a counterpart.
var forced = map[string]string{
	"user":              "every client logs in to the server as itself: let clients use this name, or give the database's rights to their roles",
	"pool_mode":         "pipeline is for all databases: run a second pgagroal for this one",
	"min_pool_size":     "write a line with INITIAL and MIN for a user of the users file",
	"reserve_pool_size": "raise MAX_SIZE instead",
	"connect_query":     "ALTER ROLE ... IN DATABASE ... SET does that at the server", "client_encoding": "ALTER DATABASE ... SET client_encoding",
	"datestyle": "ALTER DATABASE ... SET datestyle", "timezone": "ALTER DATABASE ... SET timezone", "application_name": "it follows the client",
	"load_balance_hosts": "all clients go to the primary", "server_lifetime": "max_connection_age is for all databases",
	"max_db_client_connections": "max_clients_per_database is for all databases",
	"auth_query":                "there is one auth_query_statement; let it execute a function, which may be another one in each database",
	"auth_user":                 "auth_query_user is for all databases", "auth_dbname": "auth_query_database is for all databases",
}

func (m *importer) entry(d database) {
	for _, word := range slices.Sorted(maps.Keys(d.values)) {
		switch word {
		case "host", "port", "dbname", "pool_size", "max_db_connections":
		case "password":
			m.row("databases."+d.name, "password", "", "see the users below")
			m.password(d.values["user"], d.values["password"])
		default:
			m.row("databases."+d.name, word+"="+d.values[word], "", cmp.Or(forced[word], "no counterpart"))
		}
	}
	if d.name == anyDatabase {
		m.names = nil
		m.row("databases.*", "", config.FileHBA+": all databases", "")
	}
}

// password adds the password of a user that an entry names, unless the list of users has it.
func (m *importer) password(user, password string) {
	if user != "" && !slices.ContainsFunc(m.accounts, func(a account) bool { return a.name == user }) {
		m.accounts = append(m.accounts, account{user, password})
	}
}

// aliases writes the limits, and which names are databases of which other name.
func (m *importer) aliases(list []database) {
	others := map[string][]string{} // names of a database that are not its own
	size := map[string]int{}
	var reals []string
	every := slices.ContainsFunc(list, func(d database) bool { return d.name == anyDatabase })
	for _, d := range list {
		if d.name == anyDatabase {
			continue
		}
		real := d.real()
		if !slices.Contains(reals, real) {
			reals = append(reals, real)
		}
		if real != d.name {
			others[real] = append(others[real], d.name)
		}
		m.names = append(m.names, d.name)
		size[real] = max(size[real], m.size(d))
	}
	slices.SortStableFunc(reals, func(a, b string) int { return cmp.Compare(len(others[b]), len(others[a])) })
	for _, real := range reals {
		m.limit(real, others[real], size[real], list)
	}
	if every || len(list) == 0 {
		m.names = nil
		m.largest += m.size(database{})
	}
	m.largest = min(max(m.largest, 1), 10000)
	m.key("pgagroal", "max_connections", strconv.Itoa(m.largest), "default_pool_size", cmp.Or(m.set["default_pool_size"], "20 (PgBouncer's default)"),
		"all pools together: as many as PgBouncer could open for the known users; compare with max_connections of the server")
}

// size returns how many connections PgBouncer would open for a database at most.
func (m *importer) size(d database) int {
	number := func(texts ...string) int {
		n, _ := strconv.Atoi(cmp.Or(texts...))
		return max(n, 0)
	}
	n := number(d.values["pool_size"], m.set["default_pool_size"], "20") * max(len(m.accounts), 1)
	if most := number(d.values["max_db_connections"], m.set["max_db_connections"], "0"); most > 0 {
		n = min(n, most)
	}
	return max(n, 1)
}

// limit writes a line for a database that has a size or other names of its own.
func (m *importer) limit(real string, others []string, size int, list []database) {
	m.largest += size
	named := false
	for _, d := range list {
		if d.real() == real && d.name != anyDatabase {
			named = named || d.values["pool_size"] != "" || d.values["max_db_connections"] != "" || m.set["max_db_connections"] != ""
		}
	}
	if !named && len(others) == 0 {
		return
	}
	const most = 8 // aliases of one database, as in C pgagroal
	first := config.Named(real).String()
	for i, other := range others {
		if slices.ContainsFunc(list, func(d database) bool { return d.real() == other }) || i >= most {
			m.row("databases."+other, "dbname="+real, "", "the name is that of another database there, or one alias too many: let clients use "+real)
			m.names = slices.DeleteFunc(m.names, func(n string) bool { return n == other })
			continue
		}
		separator := ","
		if !strings.Contains(first, "=") {
			separator = "="
		}
		first += separator + config.Named(other).String()
	}
	m.limits = append(m.limits, fmt.Sprintf("%s all %d", first, size))
	m.row("databases."+cmp.Or(strings.Join(others, ", "), real), "", fmt.Sprintf("%s: %s all %d", config.FileLimits, first, size),
		"the size is for all users together; PgBouncer counts each user by itself")
}

// users says what becomes of the section [users].
func (m *importer) users() error {
	for _, s := range m.pairs {
		if s.section != "users" {
			continue
		}
		values, err := readConnection(s.value)
		if err != nil {
			return fmt.Errorf("[users] %s: %w", s.key, err)
		}
		for _, word := range slices.Sorted(maps.Keys(values)) {
			text := cmp.Or(map[string]string{
				"pool_mode": "pipeline is for all users: run a second pgagroal for this one", "max_user_client_connections": "max_clients_per_user is for all users",
				"pool_size": "write a line DATABASE " + config.Named(s.key).String() + " N in " + config.FileLimits,
			}[word], "no counterpart")
			if word == "max_user_connections" {
				text = fmt.Sprintf("write a line all %s %s at the top of %s", config.Named(s.key), values[word], config.FileLimits)
			}
			m.row("users."+s.key, word+"="+values[word], "", text)
		}
	}
	return nil
}
