package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// foreignKeys maps keys of PostgreSQL and PgBouncer to what to write instead.
var foreignKeys = map[string]string{
	"listen_addresses":        "write host",
	"listen_addr":             "write host",
	"hostaddr":                "write host",
	"listen_port":             "write port",
	"listen_backlog":          "write backlog",
	"unix_socket_directories": "write unix_socket_dir",
	"external_pid_file":       "write pidfile",
	"pool_mode":               "write pipeline = session or pipeline = transaction",
	"max_client_conn":         "write max_connections, which bounds the connections to servers",
	"max_db_connections":      "write a line with MAX_SIZE in pgagroal_databases.conf",
	"max_user_connections":    "write a line with MAX_SIZE in pgagroal_databases.conf",
	"default_pool_size":       "write a line with MAX_SIZE in pgagroal_databases.conf",
	"min_pool_size":           "write a line with MIN_SIZE in pgagroal_databases.conf",
	"query_wait_timeout":      "write blocking_timeout",
	"server_idle_timeout":     "write idle_timeout",
	"server_lifetime":         "write max_connection_age",
	"client_login_timeout":    "write authentication_timeout",
	"auth_file":               "add the users with pgagroal-admin",
	"auth_type":               "write the method in pgagroal_hba.conf",
	"auth_hba_file":           "write the lines in pgagroal_hba.conf",
	"hba_file":                "write the lines in pgagroal_hba.conf",
	"logfile":                 "write log_path",
	"log_filename":            "write log_path",
	"log_directory":           "write log_path",
	"log_destination":         "write log_type",
	"log_min_messages":        "write log_level",
	"tcp_keepalive":           "write keep_alive",
	"ssl":                     "write tls",
	"sslmode":                 "write tls",
	"client_tls_sslmode":      "write tls",
	"server_tls_sslmode":      "write tls in the section of the server",
	"dbname":                  "delete the line: the client names the database",
	"password":                "add the user with pgagroal-admin",
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
