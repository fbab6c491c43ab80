package console

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// prefix begins the name of every metric.
const prefix = "pgagroal_"

// kind is the type of a metric.
type kind uint8

const (
	gauge kind = iota
	counter
	histogram
)

var kindNames = [...]string{"gauge", "counter", "histogram"}

func (k kind) String() string { return kindNames[k] }

// row is one metric.
type row struct {
	name   string // without prefix
	kind   kind
	labels []string
	help   string
}

func labels(names ...string) []string { return names }

// compatible are the metrics of C pgagroal, with its names, types and labels. Some of the
// names break the rules of Prometheus for names, which is why no other metric is like them.
var compatible = []row{
	{"state", gauge, nil, "State of pgagroal: 1 running, 2 graceful shutdown"},
	{"pipeline_mode", gauge, nil, "Pipeline: 0 performance, 1 session, 2 transaction"},
	{"server_reset_query_behavior_on_failure", gauge, nil, "What happens when the reset query fails: 0 discard, 1 ignore, 2 try"},
	{"server_error", counter, labels("name", "state"), "Connections to a server that could not be opened, with its present state"},
	{"server_streaming", gauge, labels("name"), "Replication of a server: -1 it is the primary, 0 it doesn't receive, 1 it receives"},
	{"server_health", gauge, labels("server", "auth"), "Last look at a server: 0 down, 1 up, 2 unknown"},
	{"server_version", gauge, labels("server"), "Major version of a server's PostgreSQL, 0 unknown"},
	{"failed_servers", gauge, nil, "Servers in the state failed"},
	{"logging_info", gauge, nil, "Lines of level info that pgagroal has logged, without a script runner that is a service"},
	{"logging_warn", gauge, nil, "Lines of level warn that pgagroal has logged, without a script runner that is a service"},
	{"logging_error", gauge, nil, "Lines of level error that pgagroal has logged, without a script runner that is a service"},
	{"logging_fatal", gauge, nil, "Lines of level fatal that pgagroal has logged, without a script runner that is a service"},
	{"wait_time", gauge, nil, "Last wait of a client for a connection, in whole seconds, the longest of all workers"},
	{"query_count", counter, nil, "Queries that clients have sent"},
	{"connection_query_count", counter, labels("id", "user", "database", "application_name"), "Requests that a connection has answered for its present client; with metrics_detail = connection"},
	{"tx_count", counter, nil, "Transaction blocks that clients have begun"},
	{"active_connections", gauge, nil, "Connections to servers that a client has"},
	{"total_connections", gauge, nil, "Connections to servers"},
	{"max_connections", counter, nil, "Most connections to servers, as configured"},
	{"connection", gauge, labels("id", "user", "database", "application_name", "state"), "A connection to a server; with metrics_detail = connection"},
	{"limit", gauge, labels("user", "database", "type"), "A rule of pgagroal_databases.conf: its sizes min, initial and max, and the connections active and backend that count against it"},
	{"limit_awaiting", gauge, labels("user", "database"), "Clients that wait for a connection of a rule"},
	{"connection_awaiting", gauge, nil, "Clients that wait for a connection to a server"},
	{"session_time_seconds", histogram, nil, "Length of clients' sessions"},
	{"connection_error", counter, nil, "Connections to servers that could not be opened"},
	{"connection_kill", counter, nil, "Connections to servers that pgagroal has closed"},
	{"connection_remove", counter, nil, "Idle connections to servers that were closed to make room, or were of no use any more"},
	{"connection_timeout", counter, nil, "Clients that got no connection in time"},
	{"connection_return", counter, nil, "Connections that clients have given back"},
	{"connection_invalid", counter, nil, "Idle connections that were found to be broken"},
	{"connection_get", counter, nil, "Connections that clients have been given"},
	{"connection_idletimeout", counter, nil, "Connections to servers that were closed by idle_timeout"},
	{"connection_max_connection_age", counter, nil, "Connections to servers that were closed by max_connection_age"},
	{"connection_flush", counter, nil, "Connections to servers that were closed by a flush"},
	{"connection_success", counter, nil, "Connections to servers that were opened"},
	{"auth_user_success", counter, nil, "Logins of clients that have succeeded"},
	{"auth_user_bad_password", counter, nil, "Logins of clients with a wrong password"},
	{"auth_user_error", counter, nil, "Logins of clients that have failed for another reason"},
	{"client_wait", gauge, nil, "Clients that are logging in"},
	{"client_active", gauge, nil, "Clients that have logged in"},
	{"network_sent", gauge, nil, "Bytes that clients have sent to servers"},
	{"network_received", gauge, nil, "Bytes that servers have sent to clients"},
	{"client_sockets", gauge, nil, "Sockets of clients"},
	{"self_sockets", gauge, nil, "Sockets to servers"},
	{"os_info", gauge, labels("os", "major", "minor", "patch"), "Kernel of this machine"},
	{"certificates_total", gauge, nil, "Files with certificates in the configuration, as they were at the start"},
	{"certificates_accessible", gauge, nil, "Of these, files that can be read"},
	{"certificates_valid", gauge, nil, "Of these, certificates that are valid now"},
	{"certificates_expired", gauge, nil, "Of these, certificates that have ended"},
	{"certificates_expiring_soon", gauge, nil, "Of these, certificates that end within 30 days"},
	{"certificates_inaccessible", gauge, nil, "Of these, files that can't be read"},
	{"certificates_parse_errors", gauge, nil, "Of these, files without a certificate that can be read"},
	{"tls_certificate_status", gauge, labels("server", "path"), "Whether a certificate is valid now: 1 or 0. The label server is pgagroal, metrics, or the name of a server"},
	{"tls_certificate_expiration_seconds", gauge, labels("server"), "When a certificate ends, in seconds since 1970"},
	{"tls_certificate_key_size_bits", gauge, labels("server"), "Size of a certificate's key"},
	{"tls_certificate_is_ca", gauge, labels("server"), "Whether a certificate is that of an authority: 1 or 0"},
	{"tls_certificate_key_type", gauge, labels("server"), "Type of a certificate's key: 0 unknown, 1 RSA, 2 ECDSA, 3 Ed25519"},
	{"tls_certificate_signature_algorithm", gauge, labels("server"), "Signature of a certificate: 0 unknown, 1 to 4 RSA with SHA256, 384, 512, 1, 5 to 7 ECDSA with SHA256, 384, 512, 8 Ed25519, 10 to 12 RSA-PSS with SHA256, 384, 512"},
	{"tls_certificate_info", gauge, labels("server", "subject", "issuer", "serial_number", "expires_date", "valid_from_date", "key_type_name", "signature_algorithm_name", "key_size"), "What a certificate says"},
}

// ours are the metrics that C pgagroal doesn't have.
var ours = []row{
	{"build_info", gauge, labels("version"), "Release of pgagroal"},
	{"writable", gauge, nil, "Whether a client that connects now can write: 1 or 0"},
	{"snapshot_age_seconds", gauge, nil, "Age of these figures"},
	{"metrics_dropped_series", gauge, nil, "Series that are left out because of metrics_max_series"},
	{"workers", gauge, nil, "Workers that have sent figures"},
	{"clients", gauge, labels("state"), "Clients by state: unplaced (no worker has taken them yet), login, idle, active (they have a connection to a server), waiting for a connection, held (waiting for a primary)"},

	{"server_state", gauge, labels("server", "state"), "State of a server: 1 for the present one, 0 for the others"},
	{"server_qualifier", gauge, labels("server", "qualifier"), "What is wrong with a server: 1 if it applies"},
	{"server_lag_bytes", gauge, labels("server"), "Bytes that a standby is behind the last position seen on the primary"},
	{"server_lag_seconds", gauge, labels("server"), "For how long a standby had lacked something at its last probe"},
	{"server_receiver_streaming", gauge, labels("server"), "Whether the WAL receiver of a standby streams: 1 or 0"},
	{"server_timeline", gauge, labels("server"), "Timeline of a server"},
	{"server_wal_position_bytes", gauge, labels("server"), "Last position in the WAL that was seen on a server"},
	{"server_probe_age_seconds", gauge, labels("server"), "Time since the last probe of a server"},
	{"server_probe_failures", gauge, labels("server"), "Probes of a server that have failed in a row"},
	{"server_probes_total", counter, labels("server", "outcome"), "Probes of a server by outcome"},
	{"server_probe_seconds_total", counter, labels("server"), "Time that all probes of a server took together"},
	{"backend_errors_total", counter, labels("server"), "Connections to a server that could not be opened"},

	{"wait_seconds", histogram, labels("server"), "Wait of clients for a connection to a server; 0 if one was free"},
	{"query_seconds", histogram, labels("server"), "Time from a request of a client until the server is ready for the next one"},
	{"transaction_seconds", histogram, labels("server"), "Time from the first request of a transaction until its end"},
	{"backend_login_seconds", histogram, labels("server"), "Time to open a connection to a server: TCP, TLS and login"},
	{"tls_handshakes_total", counter, labels("peer", "version", "result"), "TLS handshakes with clients and with servers: full, resumed, or why they failed"},
	{"client_login_seconds", histogram, nil, "Time from the accept of a client until its login is complete"},

	{"pool_connections", gauge, labels("database", "user", "server", "state"), "Connections of a pool, active or idle"},
	{"pool_waiting", gauge, labels("database", "user", "server"), "Clients that wait for a connection of a pool"},

	{"leases", gauge, labels("state"), "Permissions for connections to servers: used, orphaned (of these, left by a dead worker), unproven (of these, for logins that only the server can check), and requests that are waiting"},

	{"failover_enabled", gauge, nil, "Whether failover is configured: 1 or 0"},
	{"failover_paused", gauge, nil, "Whether failover is paused by command: 1 or 0"},
	{"failover_phase", gauge, labels("phase"), "Phase of the failover: 1 for the present one, 0 for the others"},
	{"failover_phase_seconds_total", counter, labels("phase"), "Time spent in each phase"},
	{"failover_last_seconds", gauge, labels("phase"), "Time that the last failover, or attempt, spent in each phase; no series before the first since the start"},
	{"failover_epoch", gauge, nil, "Number that grows with each change of primary"},
	{"failover_timeline", gauge, nil, "Timeline of the recorded primary"},
	{"failover_held_seconds", gauge, nil, "For how long clients have been held, 0 if they aren't"},
	{"failover_runs_total", counter, labels("hook", "outcome"), "Runs of scripts by outcome: ok, failed, timeout, signal, refused, unknown (the runner was lost meanwhile)"},
	{"failover_last_success_timestamp_seconds", gauge, nil, "When failover_script last succeeded, 0 if it hasn't since the start"},
	{"failover_problems", gauge, nil, "Problems that a rehearsal would find, by the latest probes (failover rehearse names them); 0 with failover = off"},
	{"failover_fenced_sessions_total", counter, nil, "Sessions that a fence has parted from the old primary"},
	{"alarm", gauge, labels("alarm"), "An alarm that an operator should look at: 1; no series if there is none"},
	{"alarms", gauge, nil, "Number of alarms"},
	{"runner_connected", gauge, nil, "Whether the process that runs scripts is there: 1 or 0; no series if pgagroal runs no scripts"},
	{"runner_agrees", gauge, nil, "Whether it has read the same configuration: 1 or 0; no series if pgagroal runs no scripts"},
	{"state_dir_writable", gauge, nil, "Whether state_dir can be written: 1 or 0"},
	{"confinement", gauge, labels("part", "state"), "What confines the processes, in_force or lacking on this kernel"},
	{"certificate_end_timestamp_seconds", gauge, labels("server", "path"), "When the certificate in a file ends, in seconds since 1970; the label server is pgagroal, metrics, or the name of a server"},

	{"process_cpu_seconds_total", counter, labels("process"), "Time of the processor that a process has used"},
	{"process_resident_memory_bytes", gauge, labels("process"), "Memory that a process has in use, where /proc shows it"},
	{"worker_answer_seconds", gauge, labels("worker"), "How long the event loop of a worker took to answer the last request for figures, or has taken so far"},
}

// metric is a row with what client_golang needs of it.
type metric struct {
	row
	desc *prometheus.Desc
}

// metrics are all rows by name.
type metrics map[string]*metric

func newMetrics() metrics {
	all := metrics{}
	for _, r := range append(append([]row{}, compatible...), ours...) {
		all[r.name] = &metric{r, prometheus.NewDesc(prefix+r.name, r.help, r.labels, nil)}
	}
	return all
}

// The levels of metrics_detail.
const (
	detailServer     = "server"
	detailConnection = "connection"
)

var timeBounds = ipc.TimeBounds()
