package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// foreignKeys maps keys of PostgreSQL, PgBouncer and Odyssey to what to write instead.
var foreignKeys = map[string]string{
	"listen_addresses":            "write host",
	"listen_addr":                 "write host",
	"hostaddr":                    "write host",
	"listen_port":                 "write port",
	"listen_backlog":              "write backlog",
	"unix_socket_directories":     "write unix_socket_dir",
	"external_pid_file":           "write pidfile",
	"pool_mode":                   "write pipeline = session or pipeline = transaction",
	"max_client_conn":             "write max_clients, the most clients that may connect",
	"max_user_client_connections": "write max_clients_per_user",
	"max_db_client_connections":   "write max_clients_per_database",
	"max_db_connections":          "write a line with MAX_SIZE in pgagroal_databases.conf",
	"max_user_connections":        "write a line with MAX_SIZE in pgagroal_databases.conf",
	"default_pool_size":           "write a line with MAX_SIZE in pgagroal_databases.conf",
	"min_pool_size":               "write a line with MIN_SIZE in pgagroal_databases.conf",
	"query_wait_timeout":          "write blocking_timeout",
	"server_idle_timeout":         "write idle_timeout",
	"server_lifetime":             "write max_connection_age",
	"client_login_timeout":        "write authentication_timeout",
	"auth_file":                   "add the users with pgagroal-admin",
	"auth_type":                   "write the method in pgagroal_hba.conf",
	"auth_hba_file":               "write the lines in pgagroal_hba.conf",
	"hba_file":                    "write the lines in pgagroal_hba.conf",
	"logfile":                     "write log_path",
	"log_filename":                "write log_path",
	"log_directory":               "write log_path",
	"log_destination":             "write log_type",
	"log_min_messages":            "write log_level",
	"tcp_keepalive":               "write keep_alive",
	"ssl":                         "write tls",
	"sslmode":                     "write tls",
	"client_tls_sslmode":          "write tls",
	"server_tls_sslmode":          "write tls in the section of the server",
	"dbname":                      "delete the line: the client names the database",
	"password":                    "add the user with pgagroal-admin",
	"reserve_pool_size":           "raise max_connections, or MAX_SIZE in pgagroal_databases.conf",
	"reserve_pool_timeout":        "delete the line: there is no reserve",
	"max_prepared_statements":     "delete the line: pipeline = transaction follows prepared statements",
	"ignore_startup_parameters":   "delete the line: any parameter may be given, each set of them has pools of its own",
	"server_check_query":          "write validation",
	"server_check_delay":          "write validation = foreground",
	"server_connect_timeout":      "write blocking_timeout",
	"server_login_retry":          "write connection_retry_delay",
	"client_idle_timeout":         "write disconnect_client",
	"statement_timeout":           "write query_timeout",
	"idle_session_timeout":        "write disconnect_client",
	"idle_transaction_timeout":    "write idle_in_transaction_timeout",
	"autodb_idle_timeout":         "write idle_timeout",
	"auth_user":                   "create pgagroal_superuser.conf with pgagroal-admin",
	"admin_users":                 "add them to pgagroal_admins.conf with pgagroal-admin",
	"tcp_keepidle":                "write keep_alive",
	"tcp_keepintvl":               "write keep_alive",
	"client_tls_cert_file":        "write tls_cert_file",
	"client_tls_key_file":         "write tls_key_file",
	"client_tls_ca_file":          "write tls_ca_file",
	"ssl_cert_file":               "write tls_cert_file",
	"ssl_key_file":                "write tls_key_file",
	"ssl_ca_file":                 "write tls_ca_file",
	"ssl_crl_file":                "write tls_crl_file",
	"ssl_min_protocol_version":    "write tls_min_protocol_version",
	"ssl_ciphers":                 "write tls_ciphers",
	"ssl_ecdh_curve":              "write tls_curves",
	"ssl_groups":                  "write tls_curves",
	"client_tls_protocols":        "write tls_min_protocol_version",
	"client_tls_ciphers":          "write tls_ciphers",
	"client_tls_ecdhcurve":        "write tls_curves",
	"syslog":                      "write log_type = syslog",
	"verbose":                     "write log_level",
	"log_stats":                   "delete the line: pgagroal-cli status shows them",
	"stats_users":                 "delete the line: pgagroal-cli status shows them",
	"stats_period":                "delete the line: pgagroal-cli status shows them",

	// Odyssey's.
	"listen":                 "write host and port",
	"storage":                "write a section for the server, such as [n1]",
	"pool":                   "write pipeline = session or pipeline = transaction",
	"pool_size":              "write a line with MAX_SIZE in pgagroal_databases.conf",
	"pool_timeout":           "write blocking_timeout",
	"pool_ttl":               "write idle_timeout",
	"pool_discard":           "write server_reset_query",
	"pool_rollback":          "write server_reset_query",
	"server_lifetime_jitter": "write max_connection_age",
	"client_max":             "write max_clients, the most clients that may connect",
	"client_max_routing":     "delete the line: logins that have proven nothing hold a quarter of the connections at most",
	"client_fwd_error":       "delete the line: clients get the errors of the server",
	"authentication":         "write the method in pgagroal_hba.conf",
	"storage_db":             "write a line with an alias in pgagroal_databases.conf",
	"storage_user":           "add the user with pgagroal-admin",
	"storage_password":       "add the user with pgagroal-admin",
	"log_to_stdout":          "write log_type = console",
	"log_file":               "write log_path",
	"log_syslog":             "write log_type = syslog",
	"log_session":            "write log_connections and log_disconnections",
	"log_debug":              "write log_level = debug",
	"log_query":              "delete the line: no text of a query is logged",
	"keepalive":              "write keep_alive",
	"daemonize":              "delete the line, and start pgagroal -d",
	"pid_file":               "write pidfile",
	"bindwith_reuseport":     "delete the line: one process accepts clients",
	"so_reuseport":           "delete the line: one process accepts clients",
	"tls_mode":               "write tls",
	"tls_protocols":          "write tls_min_protocol_version",
}

// refuseHost returns why a text that isn't a path can't be the host of a server, or "".
func refuseHost(host string) string {
	name, port, colon := strings.Cut(host, ":")
	_, notNumber := strconv.ParseUint(port, 10, 16)
	_, notAddress := netip.ParseAddr(host)
	switch {
	case notAddress == nil:
		return ""
	case strings.Contains(host, "://") || strings.Contains(host, "="):
		return fmt.Sprintf("host = %s is a connection string; write the name or address alone, and the port in port", host)
	case strings.Contains(host, "/"):
		return ""
	case strings.HasPrefix(host, "["):
		return fmt.Sprintf("host = %s has brackets; write the address without them, and the port in port", host)
	case colon && notNumber == nil:
		return fmt.Sprintf("host = %s holds the port; write host = %s and port = %s", host, name, port)
	case strings.Contains(host, ","):
		return fmt.Sprintf("host = %s is a list; write a section for each server", host)
	case strings.ContainsAny(host, blanks+`:;@*'"`):
		return fmt.Sprintf("host = %s is neither a name nor an address; write one", host)
	}
	return ""
}
