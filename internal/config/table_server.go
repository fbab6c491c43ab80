package config

// serverRows are the keys of a server section.
func serverRows() []Row {
	return []Row{
		{
			Name: "host", Section: ServerSection, Kind: String, Reload: Restart,
			Help:   "Name or address of the PostgreSQL instance, or the directory of its Unix socket; required",
			server: func(s *Server) any { return &s.Host },
		},
		{
			Name: "port", Section: ServerSection, Kind: Port, Min: 1, Reload: Restart,
			Help:   "Port of the PostgreSQL instance; required",
			server: func(s *Server) any { return &s.Port },
		},
		{
			Name: "primary", Section: ServerSection, Kind: Bool, Default: "off",
			Help:   "Hint that this server is the primary, used until the servers have been asked",
			server: func(s *Server) any { return &s.Primary },
		},
		{
			Name: "tls", Section: ServerSection, Kind: Bool, Default: "off", Reload: Restart,
			Help:   "Use TLS to this server",
			server: func(s *Server) any { return &s.TLS },
		},
		{
			Name: "tls_cert_file", Section: ServerSection, Kind: Path, Reload: Restart, Later: true,
			Help:   "Certificate presented to this server",
			server: func(s *Server) any { return &s.TLSCertFile },
		},
		{
			Name: "tls_key_file", Section: ServerSection, Kind: Path, Reload: Restart, Later: true,
			Help:   "Private key of tls_cert_file",
			server: func(s *Server) any { return &s.TLSKeyFile },
		},
		{
			Name: "tls_ca_file", Section: ServerSection, Kind: Path, Reload: Restart, Later: true,
			Help:   "Certificate authorities that this server's certificate is checked against",
			server: func(s *Server) any { return &s.TLSCAFile },
		},
		{
			Name: "channel_binding", Section: ServerSection, Kind: Enum, Default: "prefer", Reload: Restart, Later: true,
			Values: []string{"disabled", "prefer", "require"},
			Help:   "Channel binding of SCRAM over TLS to this server",
			server: func(s *Server) any { return &s.ChannelBinding },
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
