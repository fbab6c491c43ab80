package pgbouncer

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// rule says what becomes of a setting of the section [pgbouncer].
type rule struct {
	key      string                                     // of pgagroal.conf, empty for none
	convert  func(value string) (string, string, error) // to the value here and a remark; nil keeps the value
	standard string                                     // of PgBouncer, where it isn't the default here
	text     string                                     // a remark, or what to do instead
}

// notNeeded stands for settings of things that pgagroal doesn't have or does by itself.
const notNeeded = "not needed: "

// elsewhere are the settings that other steps read.
var elsewhere = map[string]bool{
	"auth_type": true, "auth_file": true, "auth_hba_file": true, "auth_ident_file": true, "auth_query": true, "auth_user": true, "auth_dbname": true,
	"default_pool_size": true, "max_db_connections": true, "server_tls_sslmode": true, "server_tls_ca_file": true, "server_tls_key_file": true,
	"server_tls_cert_file": true, "client_tls_sslmode": true, "logfile": true, "syslog": true,
}

var rules = map[string]rule{
	"listen_addr": {key: "host", standard: "", convert: listenAddress}, "listen_port": {key: "port", standard: "6432"},
	"unix_socket_dir":   {key: "unix_socket_dir", standard: "/tmp", text: "the directory must exist, and the account of pgagroal must be able to write to it"},
	"unix_socket_mode":  {text: notNeeded + "everybody may connect, and pgagroal_hba.conf decides; the directory's mode keeps others out"},
	"unix_socket_group": {text: "give the directory of unix_socket_dir that group"},
	"user":              {key: "user", text: "start pgagroal as root"}, "pidfile": {key: "pidfile"},
	"conffile": {text: notNeeded + "a reload reads the files of the start"}, "service_name": {text: notNeeded + "not for Windows"}, "job_name": {text: notNeeded + "not for Windows"},
	"peer_id":        {text: notNeeded + "one pgagroal has a process for each CPU; cancel requests find their way"},
	"so_reuseport":   {text: notNeeded + "one process accepts for all workers (key workers)"},
	"listen_backlog": {key: "backlog"},

	"pool_mode":               {key: "pipeline", standard: "session", convert: poolMode},
	"max_prepared_statements": {text: notNeeded + "the transaction pipeline always follows prepared statements"},
	"server_reset_query":      {key: "server_reset_query"}, "server_reset_query_always": {key: "server_reset_query_always", convert: boolean},
	"track_extra_parameters":    {text: "in the transaction pipeline application_name, client_encoding, DateStyle, IntervalStyle, TimeZone and standard_conforming_strings follow a client; others make a pool of their own when they are given at the start"},
	"ignore_startup_parameters": {text: notNeeded + "no parameter is refused: those that don't follow a client make a pool of their own"},
	"server_check_query":        {key: "validation", convert: checkQuery}, "server_check_delay": {text: notNeeded + "validation = foreground tests connections that were idle for a second"},
	"server_fast_close": {text: "pgagroal-cli flush idle, or flush all"}, "application_name_add_host": {key: "application_name_add_host", convert: boolean},
	"server_round_robin": {text: notNeeded + "the connection that was used last is used first"},

	"max_client_conn": {key: "max_clients", standard: "100"}, "max_user_client_connections": {key: "max_clients_per_user"},
	"max_db_client_connections": {key: "max_clients_per_database"},
	"min_pool_size":             {text: "write DATABASE USER MAX INITIAL MIN lines in pgagroal_databases.conf for the users that shall have connections ahead"},
	"reserve_pool_size":         {text: "raise MAX_SIZE instead: clients wait up to blocking_timeout for a connection"}, "reserve_pool_timeout": {text: "belongs to reserve_pool_size"},
	"max_user_connections": {text: "write a line all USER N in pgagroal_databases.conf for each user that shall have a limit"},

	"server_lifetime": {key: "max_connection_age", convert: seconds}, "server_idle_timeout": {key: "idle_timeout", convert: seconds, standard: "600"},
	"server_connect_timeout":   {text: notNeeded + "blocking_timeout bounds the wait of a client with everything that belongs to it"},
	"server_login_retry":       {text: notNeeded + "the next client tries again, after connection_retry_delay"},
	"query_timeout":            {key: "query_timeout", convert: seconds, text: "the statement is cancelled first; the client is disconnected only if that doesn't help"},
	"query_wait_timeout":       {key: "blocking_timeout", convert: waitTime, standard: "120"},
	"query_wait_notify":        {text: notNeeded + "pgagroal-cli clients shows who waits"},
	"cancel_wait_timeout":      {text: notNeeded + "cancel requests don't wait"},
	"client_idle_timeout":      {key: "disconnect_client", convert: plainSeconds, text: "never inside a transaction"},
	"idle_transaction_timeout": {key: "idle_in_transaction_timeout", convert: seconds},
	"transaction_timeout":      {text: "set transaction_timeout at the server (PostgreSQL 17)"},
	"client_login_timeout":     {key: "authentication_timeout", convert: seconds, standard: "60"},
	"autodb_idle_timeout":      {text: notNeeded + "a pool without connections costs next to nothing; max_pools bounds them"},
	"pool_idle_timeout":        {text: notNeeded + "a pool without connections costs next to nothing; max_pools bounds them"},
	"suspend_timeout":          {text: notNeeded + "pgagroal-cli pause holds clients, pause_timeout bounds it"},
	"login_notify_message":     {text: "no counterpart"},

	"client_tls_ca_file": {key: "tls_ca_file"}, "client_tls_key_file": {key: "tls_key_file"}, "client_tls_cert_file": {key: "tls_cert_file"},
	"client_tls_protocols": {key: "tls_min_protocol_version", convert: protocols}, "client_tls_ciphers": {text: "tls_ciphers, in words of OpenSSL or IANA, if the defaults don't do"},
	"client_tls13_ciphers": {text: notNeeded + "those of TLS 1.3 are fixed"}, "client_tls_dheparams": {text: notNeeded + "only elliptic curves are used"},
	"client_tls_ecdhcurve": {text: "tls_curves, if the defaults don't do"}, "server_tls_protocols": {text: "tls_min_protocol_version in the server's section; TLS 1.2 is the least anyway"},
	"server_tls_ciphers": {text: "tls_ciphers in the server's section, if the defaults don't do"}, "server_tls13_ciphers": {text: notNeeded + "those of TLS 1.3 are fixed"},

	"admin_users":  {text: notNeeded + "there is no admin console; pgagroal-cli works for root and the account of pgagroal"},
	"stats_users":  {text: notNeeded + "pgagroal-cli status is for every local user, metrics for Prometheus"},
	"stats_period": {text: notNeeded + "metrics are counted all the time"}, "log_stats": {text: notNeeded + "metrics for Prometheus and pgagroal-cli top"},
	"log_connections": {key: "log_connections", convert: boolean, standard: "1"}, "log_disconnections": {key: "log_disconnections", convert: boolean, standard: "1"},
	"log_pooler_errors": {text: notNeeded + "errors that pgagroal sends are in the log"}, "verbose": {key: "log_level", convert: verbosity},
	"syslog_ident": {text: "no counterpart: it is pgagroal"}, "syslog_facility": {text: "no counterpart: it is daemon"},

	"scram_iterations": {text: notNeeded + "the server has made the verifiers"}, "auth_ldap_options": {text: "no counterpart"}, "auth_pam_confdir": {text: "no counterpart"},
	"disable_pqexec": {text: "no counterpart"}, "tcp_keepalive": {key: "keep_alive", convert: boolean},
}

// ofTheSystem are settings that are left to the system.
var ofTheSystem = []string{"pkt_buf", "sbuf_loopcnt", "max_packet_size", "tcp_", "dns_", "resolv_conf"}

func ruleOf(name string) (rule, bool) {
	if r, ok := rules[name]; ok {
		return r, true
	}
	for _, prefix := range ofTheSystem {
		if strings.HasPrefix(name, prefix) {
			return rule{text: notNeeded + "pgagroal and the system choose it"}, true
		}
	}
	return rule{}, false
}

func listenAddress(v string) (string, string, error) {
	if v == "" {
		return "127.0.0.1", "PgBouncer listens on its Unix socket alone; pgagroal always has an address, here that of this machine only", nil
	}
	return v, "", nil
}

func poolMode(v string) (string, string, error) {
	switch v {
	case "session", "transaction":
		return v, "", nil
	case "statement":
		return "transaction", "there is no statement mode: transactions over several statements are allowed here", nil
	}
	return "", "", fmt.Errorf("%q is no mode of PgBouncer", v)
}

func boolean(v string) (string, string, error) {
	switch strings.ToLower(v) {
	case "1", "on", "yes", "true":
		return "on", "", nil
	case "0", "off", "no", "false":
		return "off", "", nil
	}
	return "", "", fmt.Errorf("%q is neither 1 nor 0", v)
}

// seconds rounds up, because 0 would switch a limit off.
func seconds(v string) (string, string, error) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f < 0 || f > math.MaxInt32 {
		return "", "", fmt.Errorf("%q is no number of seconds", v)
	}
	return fmt.Sprintf("%ds", int(math.Ceil(f))), "", nil
}

// plainSeconds is for a key that knows no unit.
func plainSeconds(v string) (string, string, error) {
	s, _, err := seconds(v)
	return strings.TrimSuffix(s, "s"), "", err
}

// waitTime is seconds for a time of which 0 means without a limit.
func waitTime(v string) (string, string, error) {
	s, _, err := seconds(v)
	if s == "0s" {
		return "1w", "0 would mean here that clients don't wait at all", err
	}
	return s, "", err
}

func checkQuery(v string) (string, string, error) {
	if v == "" {
		return "off", "", nil
	}
	return "foreground", "a connection that was idle for a second is tested, by a query of pgagroal's own", nil
}

func protocols(v string) (string, string, error) {
	if strings.Contains(v, "1.3") && !strings.Contains(v, "1.2") && !strings.Contains(v, "all") {
		return "TLSv1.3", "", nil
	}
	return "TLSv1.2", "older versions aren't spoken", nil
}

func verbosity(v string) (string, string, error) {
	if v == "0" || v == "" {
		return "info", "", nil
	}
	return "debug", "", nil
}
