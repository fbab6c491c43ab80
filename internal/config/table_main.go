package config

import "math"

// mainRows are the keys of the main section, without those of failover.
func mainRows() []Row {
	return []Row{
		{
			Name: "host", Kind: String,
			Help: "Addresses to listen on, with commas: names, addresses, * for all, 0.0.0.0 for all of IPv4, :: for all of IPv6; required",
			main: func(c *Config) any { return &c.Host },
		},
		{
			Name: "port", Kind: Port, Min: 1,
			Help: "Port to listen on; required",
			main: func(c *Config) any { return &c.Port },
		},
		{
			Name: "unix_socket_dir", Kind: Path,
			Help: "Existing directory for the Unix sockets; required",
			main: func(c *Config) any { return &c.UnixSocketDir },
		},
		{
			Name: "user", Kind: String, Reload: Restart,
			Help: "Account to change to after start when started as root",
			main: func(c *Config) any { return &c.User },
		},
		{
			Name: "worker_user", Kind: String, Reload: Restart,
			Help: "Account of the workers and the prober, another one than user; needs a start as root. When empty they are user",
			main: func(c *Config) any { return &c.WorkerUser },
		},
		{
			Name: "workers", Kind: Workers, Default: "auto", Min: 1, Max: 64, Reload: Restart,
			Help: "Number of worker processes, auto is one for each CPU",
			main: func(c *Config) any { return &c.Workers },
		},
		{
			Name: "state_dir", Kind: Path, Reload: Restart,
			Help: "Directory of what must survive a restart: the recorded primary and the history of failovers; when empty " + DefaultStateDir + ", else below the home directory",
			main: func(c *Config) any { return &c.StateDir },
		},
		{
			Name: "include_dir", Kind: File,
			Help: "Directory of further files of keys: those named *.conf are read after this one, in the order of their names, and a later line counts",
			main: func(c *Config) any { return &c.IncludeDir },
		},
		{
			Name: "pidfile", Kind: Path, Reload: Restart,
			Help: "File of the process id; <unix_socket_dir>/pgagroal.<port>.pid when empty",
			main: func(c *Config) any { return &c.PIDFile },
		},
		{
			Name: "metrics", Kind: Port, Default: "0",
			Help: "Port of the metrics, 0 is off",
			main: func(c *Config) any { return &c.Metrics },
		},
		{
			Name: "metrics_cache_max_age", Kind: Duration, Default: "0",
			Help: "How long an answer with metrics is reused, 0 is off",
			main: func(c *Config) any { return &c.MetricsCacheMaxAge },
		},
		{
			Name: "metrics_cache_max_size", Kind: Size, Default: "0", Max: 1 << 20, ClampMax: true, Reload: Restart,
			Help: "Size of the cache of metrics; 0 means 256K when metrics_cache_max_age is set",
			main: func(c *Config) any { return &c.MetricsCacheMaxSize },
		},
		{
			Name: "metrics_max_series", Kind: Int, Default: "10000", Min: 100, Max: 1000000,
			Help: "Most series of pools, rules and connections in one answer with metrics; the others are left out and counted",
			main: func(c *Config) any { return &c.MetricsMaxSeries },
		},
		{
			Name: "metrics_detail", Kind: Enum, Default: "pool", Values: []string{"server", "pool", "connection"},
			Help: "What metrics have series of: servers only, also pools by database and user, or also each connection to a server",
			main: func(c *Config) any { return &c.MetricsDetail },
		},
		{
			Name: "metrics_cert_file", Kind: File,
			Help: "Certificate of the ports of metrics and web console",
			main: func(c *Config) any { return &c.MetricsCertFile },
		},
		{
			Name: "metrics_key_file", Kind: File,
			Help: "Private key of metrics_cert_file",
			main: func(c *Config) any { return &c.MetricsKeyFile },
		},
		{
			Name: "metrics_ca_file", Kind: File,
			Help: "Certificate authorities for clients of these ports",
			main: func(c *Config) any { return &c.MetricsCAFile },
		},
		{
			Name: "management", Kind: Port, Default: "0",
			Help: "Port of remote management, 0 is off",
			main: func(c *Config) any { return &c.Management },
		},
		{
			Name: "console", Kind: Port, Default: "0",
			Help: "Port of the web console, 0 is off",
			main: func(c *Config) any { return &c.Console },
		},
		{
			Name: "console_names", Kind: String,
			Help: "Names by which browsers may call the web console, with commas, beside addresses, localhost and the name of this machine",
			main: func(c *Config) any { return &c.ConsoleNames },
		},
		{
			Name: "log_type", Kind: Enum, Default: "console", Values: []string{"console", "file", "syslog", "journald"},
			Help: "Where the log goes",
			main: func(c *Config) any { return &c.LogType },
		},
		{
			Name: "log_level", Kind: Enum, Default: "info", Values: []string{"fatal", "error", "warn", "info", "debug", "debug1", "debug2", "debug3", "debug4", "debug5", "trace"},
			Help: "Least severe level that is logged",
			main: func(c *Config) any { return &c.LogLevel },
		},
		{
			Name: "log_format", Kind: Enum, Default: "text", Values: []string{"text", "json"},
			Help: "How a line of the log is written; journald has fields instead",
			main: func(c *Config) any { return &c.LogFormat },
		},
		{
			Name: "log_path", Kind: Path, Default: "pgagroal.log",
			Help: "File of the log, with strftime conversions",
			main: func(c *Config) any { return &c.LogPath },
		},
		{
			Name: "log_rotation_age", Kind: Duration, Default: "0",
			Help: "Age at which the log file is rotated, 0 is off",
			main: func(c *Config) any { return &c.LogRotationAge },
		},
		{
			Name: "log_rotation_size", Kind: Size, Default: "0",
			Help: "Size at which the log file is rotated, 0 is off",
			main: func(c *Config) any { return &c.LogRotationSize },
		},
		{
			Name: "log_line_prefix", Kind: String, Default: "%Y-%m-%d %H:%M:%S",
			Help: "Start of each log line, with strftime conversions",
			main: func(c *Config) any { return &c.LogLinePrefix },
		},
		{
			Name: "log_mode", Kind: Enum, Default: "append", Values: []string{"append", "create"}, Aliases: map[string]string{"a": "append", "c": "create"},
			Help: "Append to the log file or empty it first",
			main: func(c *Config) any { return &c.LogMode },
		},
		{
			Name: "log_connections", Kind: Bool, Default: "off",
			Help: "Log each connection of a client",
			main: func(c *Config) any { return &c.LogConnections },
		},
		{
			Name: "log_disconnections", Kind: Bool, Default: "off",
			Help: "Log each end of a client's connection",
			main: func(c *Config) any { return &c.LogDisconnections },
		},
		{
			Name: "blocking_timeout", Kind: Duration, Default: "30s",
			Help: "How long a client waits for a connection to a server, 0 does not wait",
			main: func(c *Config) any { return &c.BlockingTimeout },
		},
		{
			Name: "connection_retry_delay", Kind: Millis, Default: "250", Min: 1, Max: 999, ClampMin: true, ClampMax: true,
			Help: "Longest pause between two attempts to get a connection, in milliseconds",
			main: func(c *Config) any { return &c.ConnectionRetryDelay },
		},
		{
			Name: "idle_timeout", Kind: Duration, Default: "0",
			Help: "Idle connections to servers are closed after this time, 0 is off",
			main: func(c *Config) any { return &c.IdleTimeout },
		},
		{
			Name: "max_connection_age", Kind: Duration, Default: "1h",
			Help: "Connections to servers are closed at this age, so changed settings reach clients; 0 is off",
			main: func(c *Config) any { return &c.MaxConnectionAge },
		},
		{
			Name: "flush_timeout", Kind: Duration, Default: "60s",
			Help: "Deadline of a graceful flush or shutdown, 0 is unbounded",
			main: func(c *Config) any { return &c.FlushTimeout },
		},
		{
			Name: "shutdown_mode", Kind: Enum, Default: ShutdownImmediate, Values: []string{ShutdownImmediate, ShutdownGracefully},
			Help: "What SIGTERM does: end at once, or when the last client has left or flush_timeout is over",
			main: func(c *Config) any { return &c.ShutdownMode },
		},
		{
			Name: "shutdown_delay", Kind: DurationMS, Default: "0",
			Help: "How long readiness fails before a shutdown turns the first client away, so that load balancers send no more clients",
			main: func(c *Config) any { return &c.ShutdownDelay },
		},
		{
			Name: "pause_timeout", Kind: Duration, Default: "5m",
			Help: "How long pgagroal-cli pause holds clients at most; 0 is until pgagroal-cli resume",
			main: func(c *Config) any { return &c.PauseTimeout },
		},
		{
			Name: "upgrade_timeout", Kind: Duration, Default: "1h",
			Help: "How long workers of the version before an upgrade serve the clients that they have; 0 is until the last one has left",
			main: func(c *Config) any { return &c.UpgradeTimeout },
		},
		{
			Name: "validation", Kind: Enum, Default: "off", Values: []string{ValidationOff, ValidationForeground, ValidationBackground},
			Help: "When idle connections to servers are tested: never, before a client gets one, or every background_interval",
			main: func(c *Config) any { return &c.Validation },
		},
		{
			Name: "background_interval", Kind: Duration, Default: "300s", Min: 5000, ClampMin: true,
			Help: "Time between two background validations, at least 5s",
			main: func(c *Config) any { return &c.BackgroundInterval },
		},
		{
			Name: "max_retries", Kind: Int, Default: "5",
			Help: "With blocking_timeout = 0, how many more times a connection to a server is tried that fails at once",
			main: func(c *Config) any { return &c.MaxRetries },
		},
		{
			Name: "max_connections", Kind: Int, Default: "100", Min: 1, Max: 10000, ClampMax: true, Reload: Restart,
			Help: "Most connections to servers, all pools together",
			main: func(c *Config) any { return &c.MaxConnections },
		},
		{
			Name: "max_clients", Kind: Int, Default: "0", Max: 1000000,
			Help: "Most clients, all workers together, 0 is no limit; further ones are refused before they log in",
			main: func(c *Config) any { return &c.MaxClients },
		},
		{
			Name: "max_clients_per_user", Kind: Int, Default: "0", Max: 1000000, Reload: Restart,
			Help: "Most clients of each user, 0 is no limit",
			main: func(c *Config) any { return &c.MaxClientsPerUser },
		},
		{
			Name: "max_clients_per_database", Kind: Int, Default: "0", Max: 1000000, Reload: Restart,
			Help: "Most clients of each database, 0 is no limit",
			main: func(c *Config) any { return &c.MaxClientsPerDatabase },
		},
		{
			Name: "reserved_connections", Kind: Int, Default: "0", Max: 10000, Reload: Restart,
			Help: "How many places of max_clients only the users of pgagroal_admins.conf get",
			main: func(c *Config) any { return &c.ReservedConnections },
		},
		{
			Name: "max_pools", Kind: Int, Default: "1000", Min: 1, Max: 1000000,
			Help: "Most pools in each worker, one for each database, user, server and set of start-up parameters",
			main: func(c *Config) any { return &c.MaxPools },
		},
		{
			Name: "orphan_grace", Kind: DurationMS, Default: "5s",
			Help: "How long the connections of a worker that died count against the limits while its servers still show them",
			main: func(c *Config) any { return &c.OrphanGrace },
		},
		{
			Name: "ident_file", Kind: Path, Default: "",
			Help: "Maps of names in certificates to users; without it pgagroal_ident.conf beside the other files, if it is there",
			main: func(c *Config) any { return &c.IdentFile },
		},
		{
			Name: "md5", Kind: Bool, Default: "on",
			Help: "Allow the method md5 in pgagroal_hba.conf, which asks for SCRAM-SHA-256",
			main: func(c *Config) any { return &c.MD5 },
		},
		{
			Name: "allow_unknown_users", Kind: Bool, Default: "on",
			Help: "Let in users whose password is not known here; the server decides",
			main: func(c *Config) any { return &c.AllowUnknownUsers },
		},
		{
			Name: "authentication_timeout", Kind: Duration, Default: "5s",
			Help: "How long a client may take to log in",
			main: func(c *Config) any { return &c.AuthenticationTimeout },
		},
		{
			Name: "auth_failure_delay", Kind: DurationMS, Default: "0", Max: 10_000,
			Help: "Delay of the answer to a wrong password; it doubles up to three times for an address that fails again. 0 is off",
			main: func(c *Config) any { return &c.AuthFailureDelay },
		},
		{
			Name: "follow_credential_files", Kind: Bool, Default: "on",
			Help: "Read the files of users and passwords again when they have changed, without a reload",
			main: func(c *Config) any { return &c.FollowCredentialFiles },
		},
		{
			Name: "auth_query", Kind: Bool, Default: "off",
			Help: "Ask a server for the stored password of each user without an entry here, and authenticate the user with it",
			main: func(c *Config) any { return &c.AuthQuery },
		},
		{
			Name: "auth_query_user", Kind: String,
			Help: "User as whom auth_query asks, with an entry in the users or superuser file. When empty it is the superuser",
			main: func(c *Config) any { return &c.AuthQueryUser },
		},
		{
			Name: "auth_query_database", Kind: String, Default: "postgres",
			Help: "Database in which auth_query asks, * for the database of the client",
			main: func(c *Config) any { return &c.AuthQueryDatabase },
		},
		{
			Name: "auth_query_statement", Kind: String, Default: AuthQueryStatement,
			Help: "What auth_query asks; $1 is the name of the user, the last column of the only row is the stored password",
			main: func(c *Config) any { return &c.AuthQueryStatement },
		},
		{
			Name: "auth_query_connections", Kind: Int, Default: "4", Min: 1, Max: 64,
			Help: "Most connections of auth_query, besides those of max_connections",
			main: func(c *Config) any { return &c.AuthQueryConnections },
		},
		{
			Name: "auth_query_max_age", Kind: Duration, Default: "30s", Max: 3600_000,
			Help: "How long an answer of auth_query counts, 0 is for one login",
			main: func(c *Config) any { return &c.AuthQueryMaxAge },
		},
		{
			Name: "auth_query_max_users", Kind: Int, Default: "10000", Min: 1, Max: 1_000_000,
			Help: "Most answers of auth_query that each worker keeps, for users that exist and as many for those that don't",
			main: func(c *Config) any { return &c.AuthQueryMaxUsers },
		},
		{
			Name: "rotate_frontend_password_timeout", Kind: Duration, Default: "0",
			Help: "Passwords of frontend users are not changed by pgagroal: 0 is the only value",
			main: func(c *Config) any { return &c.RotateFrontendPasswordTimeout },
		},
		{
			Name: "rotate_frontend_password_length", Kind: Int, Default: "8", Min: 8, Max: 8192,
			Help: "Length of changed passwords, which counts only with rotate_frontend_password_timeout",
			main: func(c *Config) any { return &c.RotateFrontendPasswordLength },
		},
		{
			Name: "pipeline", Kind: Enum, Default: "auto", Values: []string{"auto", "performance", "session", "transaction"}, Reload: Restart,
			Help: "How connections to servers are shared among clients",
			main: func(c *Config) any { return &c.Pipeline },
		},
		{
			Name: "track_prepared_statements", Kind: Bool, Default: "off", Inert: true,
			Help: "Kept for old files: the transaction pipeline always follows prepared statements",
			main: func(c *Config) any { return &c.TrackPreparedStatements },
		},
		{
			Name: "server_reset_query", Kind: String, Default: "DISCARD ALL",
			Help: "Query that cleans a connection before its next client, '' disables it",
			main: func(c *Config) any { return &c.ServerResetQuery },
		},
		{
			Name: "server_reset_query_always", Kind: Bool, Default: "off",
			Help: "Run server_reset_query in the transaction pipeline too",
			main: func(c *Config) any { return &c.ServerResetQueryAlways },
		},
		{
			Name: "server_reset_query_behavior_on_failure", Kind: Enum, Default: "discard", Values: []string{"discard", "ignore", "try"},
			Help: "What happens to a connection whose reset failed: discard and try close it, ignore keeps it",
			main: func(c *Config) any { return &c.ServerResetQueryBehaviorOnFailure },
		},
		{
			Name: "query_timeout", Kind: Duration, Default: "0",
			Help: "A statement that runs longer is cancelled, 0 is off",
			main: func(c *Config) any { return &c.QueryTimeout },
		},
		{
			Name: "idle_in_transaction_timeout", Kind: Duration, Default: "0",
			Help: "A client that is idle in a transaction for longer is disconnected, 0 is off",
			main: func(c *Config) any { return &c.IdleInTransactionTimeout },
		},
		{
			Name: "disconnect_client", Kind: Seconds, Default: "0",
			Help: "Seconds after which a client that is idle outside of a transaction is disconnected, 0 is off",
			main: func(c *Config) any { return &c.DisconnectClient },
		},
		{
			Name: "disconnect_client_force", Kind: Bool, Default: "off",
			Help: "Disconnect such a client inside a transaction or during a statement too",
			main: func(c *Config) any { return &c.DisconnectClientForce },
		},
		{
			Name: "tls", Kind: Enum, Default: "off", Values: []string{TLSOff, TLSAllow, TLSRequire},
			Aliases: map[string]string{"on": TLSAllow, "yes": TLSAllow, "true": TLSAllow, "1": TLSAllow, "no": TLSOff, "false": TLSOff, "0": TLSOff},
			Help:    "Whether clients may encrypt their connections, or must",
			main:    func(c *Config) any { return &c.TLS },
		},
		{
			Name: "tls_cert_file", Kind: Path,
			Help: "Certificates shown to clients, each followed by its intermediates, with commas between the files",
			main: func(c *Config) any { return &c.TLSCertFile },
		},
		{
			Name: "tls_key_file", Kind: Path,
			Help: "Private keys of tls_cert_file, in the same order",
			main: func(c *Config) any { return &c.TLSKeyFile },
		},
		{
			Name: "tls_ca_file", Kind: Path,
			Help: "Certificate authorities that clients' certificates are checked against",
			main: func(c *Config) any { return &c.TLSCAFile },
		},
		{
			Name: "tls_crl_file", Kind: Path,
			Help: "Revocation lists of these authorities",
			main: func(c *Config) any { return &c.TLSCRLFile },
		},
		{
			Name: "tls_min_protocol_version", Kind: Enum, Default: "TLSv1.2",
			Values: []string{"TLSv1.2", "TLSv1.3"}, Aliases: map[string]string{"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"},
			Help: "Oldest version of TLS that clients may speak",
			main: func(c *Config) any { return &c.TLSMinVersion },
		},
		{
			Name: "tls_curves", Kind: String, Default: "X25519:prime256v1:secp384r1",
			Help: "Curves of the key exchange, with colons between them",
			main: func(c *Config) any { return &c.TLSCurves },
		},
		{
			Name: "tls_ciphers", Kind: String,
			Help: "Ciphers of TLS 1.2, with colons between them; all that are safe if it is empty",
			main: func(c *Config) any { return &c.TLSCiphers },
		},
		{
			Name: "ev_backend", Kind: Enum, Default: "auto", Values: []string{"auto", "io_uring", "epoll"}, Reload: Restart,
			Help: "Kernel interface of the workers; auto takes io_uring where the kernel grants it",
			main: func(c *Config) any { return &c.EvBackend },
		},
		{
			Name: "keep_alive", Kind: Bool, Default: "on",
			Help: "Use SO_KEEPALIVE",
			main: func(c *Config) any { return &c.KeepAlive },
		},
		{
			Name: "nodelay", Kind: Bool, Default: "on",
			Help: "Use TCP_NODELAY",
			main: func(c *Config) any { return &c.NoDelay },
		},
		{
			Name: "backlog", Kind: Int, Reload: Restart, Default: "0", Min: math.MinInt32,
			Help: "Length of the kernel's queue of clients that are not accepted yet; 0 or less takes the system's limit",
			main: func(c *Config) any { return &c.Backlog },
		},
		{
			Name: "proxy_protocol", Kind: Bool, Default: "off",
			Help: "Every TCP connection begins with a PROXY header, version 1 or 2",
			main: func(c *Config) any { return &c.ProxyProtocol },
		},
		{
			Name: "application_name_add_host", Kind: Bool, Default: "off",
			Help: "Add the client's address to its application_name",
			main: func(c *Config) any { return &c.ApplicationNameAddHost },
		},
		{
			Name: "hugepage", Kind: Enum, Default: "try", Values: []string{"off", "try", "on"}, Inert: true,
			Help: "Kept for old files: there is no shared memory to place in huge pages",
			main: func(c *Config) any { return &c.Hugepage },
		},
		{
			Name: "tracker", Kind: Bool, Default: "off", Inert: true,
			Help: "Kept for old files: there are no slots to trace; log_connections and pgagroal-cli events tell what happens",
			main: func(c *Config) any { return &c.Tracker },
		},
		{
			Name: "update_process_title", Kind: Enum, Default: "verbose", Values: []string{"never", "strict", "minimal", "verbose"}, Aliases: map[string]string{"off": "never", "full": "verbose"}, Inert: true,
			Help: "Kept for old files: a process title always says what the process is, and a worker serves many clients",
			main: func(c *Config) any { return &c.UpdateProcessTitle },
		},
		{
			Name: "health_check", Kind: Bool, Default: "off", Failover: "on",
			Help: "Probe the servers even when no client uses them; on with failover = on and a health_check_user",
			main: func(c *Config) any { return &c.HealthCheck },
		},
		{
			Name: "health_check_period", Kind: Duration, Default: "30s", Failover: "5s",
			Help: "Time between two health checks; 5s with failover = on",
			main: func(c *Config) any { return &c.HealthCheckPeriod },
		},
		{
			Name: "health_check_timeout", Kind: Duration, Default: "2s",
			Help: "Time after which a health check, or any other probe of a server, has failed, unless failover_probe_timeout is set",
			main: func(c *Config) any { return &c.HealthCheckTimeout },
		},
		{
			Name: "health_check_user", Kind: String,
			Help: "User that probes log in as, and name of their database",
			main: func(c *Config) any { return &c.HealthCheckUser },
		},
		{
			Name: "startup_validation", Kind: Enum, Default: "try", Values: []string{"off", "try", "on"},
			Help: "Whether servers with another system identifier are refused at start (on), warned of (try) or not compared (off)",
			main: func(c *Config) any { return &c.StartupValidation },
		},
	}
}
