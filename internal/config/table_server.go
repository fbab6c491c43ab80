package config

// serverRows are the keys of a server section.
func serverRows() []Row {
	return []Row{
		{
			Name: "host", Section: ServerSection, Kind: String,
			Help:   "Name or address of the PostgreSQL instance, or the directory of its Unix socket; required",
			server: func(s *Server) any { return &s.Host },
		},
		{
			Name: "port", Section: ServerSection, Kind: Port, Min: 1,
			Help:   "Port of the PostgreSQL instance; required",
			server: func(s *Server) any { return &s.Port },
		},
		{
			Name: "primary", Section: ServerSection, Kind: Bool, Default: "off",
			Help:   "Hint that this server is the primary, used until the servers have been asked",
			server: func(s *Server) any { return &s.Primary },
		},
		{
			Name: "tls", Section: ServerSection, Kind: Enum, Default: TLSOff,
			Values:  []string{TLSOff, TLSPrefer, TLSRequire, TLSVerifyCA, TLSVerifyFull},
			Aliases: map[string]string{"on": TLSRequire, "yes": TLSRequire, "true": TLSRequire, "1": TLSRequire, "no": TLSOff, "false": TLSOff, "0": TLSOff, "disable": TLSOff},
			Help:    "Whether connections to this server are encrypted, and its certificate verified",
			server:  func(s *Server) any { return &s.TLS },
		},
		{
			Name: "tls_cert_file", Section: ServerSection, Kind: Path,
			Help:   "Certificate shown to this server, followed by its intermediates",
			server: func(s *Server) any { return &s.TLSCertFile },
		},
		{
			Name: "tls_key_file", Section: ServerSection, Kind: Path,
			Help:   "Private key of tls_cert_file",
			server: func(s *Server) any { return &s.TLSKeyFile },
		},
		{
			Name: "tls_ca_file", Section: ServerSection, Kind: Path,
			Help:   "Certificate authorities that this server's certificate is checked against; system for those of the operating system",
			server: func(s *Server) any { return &s.TLSCAFile },
		},
		{
			Name: "tls_crl_file", Section: ServerSection, Kind: Path,
			Help:   "Revocation lists of these authorities",
			server: func(s *Server) any { return &s.TLSCRLFile },
		},
		{
			Name: "tls_min_protocol_version", Section: ServerSection, Kind: Enum, Default: "TLSv1.2",
			Values: []string{"TLSv1.2", "TLSv1.3"}, Aliases: map[string]string{"tlsv1.2": "TLSv1.2", "tlsv1.3": "TLSv1.3"},
			Help:   "Oldest version of TLS that is spoken to this server",
			server: func(s *Server) any { return &s.TLSMinVersion },
		},
		{
			Name: "tls_curves", Section: ServerSection, Kind: String, Default: "prime256v1:secp384r1",
			Help:   "Curves of the key exchange, with colons between them",
			server: func(s *Server) any { return &s.TLSCurves },
		},
		{
			Name: "tls_ciphers", Section: ServerSection, Kind: String,
			Help:   "Ciphers of TLS 1.2, with colons between them; all that are safe if it is empty",
			server: func(s *Server) any { return &s.TLSCiphers },
		},
		{
			Name: "tls_negotiation", Section: ServerSection, Kind: Enum, Default: "postgres",
			Values: []string{"postgres", "direct"},
			Help:   "Whether TLS to this server is asked for, or begins at once (PostgreSQL 17 and later)",
			server: func(s *Server) any { return &s.TLSNegotiation },
		},
		{
			Name: "channel_binding", Section: ServerSection, Kind: Enum, Default: "prefer",
			Values:  []string{"disabled", "prefer", "require"},
			Aliases: map[string]string{"disable": "disabled"},
			Help:    "Channel binding of SCRAM over TLS to this server",
			server:  func(s *Server) any { return &s.ChannelBinding },
		},
		{
			Name: "require_auth", Section: ServerSection, Kind: String,
			Help:   "What this server may ask for: password, md5, scram-sha-256, none, with commas, or none of them with ! before each; everything if it is empty",
			server: func(s *Server) any { return &s.RequireAuth },
		},
		{
			Name: "failover_candidate", Section: ServerSection, Kind: Bool, Default: "on",
			Help:   "Whether this server may be promoted by a failover",
			server: func(s *Server) any { return &s.FailoverCandidate },
		},
		{
			Name: "failover_priority", Section: ServerSection, Kind: Int, Default: "0", Min: -1000000, Max: 1000000,
			Help:   "Preference among equally advanced candidates, higher first",
			server: func(s *Server) any { return &s.FailoverPriority },
		},
	}
}
