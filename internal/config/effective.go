package config

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
)

// ResolvedPipeline returns the pipeline in use. auto means session if failover, TLS to clients or
// disconnect_client needs it, otherwise performance.
func (c *Config) ResolvedPipeline() string {
	switch {
	case c.Pipeline != PipelineAuto:
		return c.Pipeline
	case c.Failover, c.OffersTLS(), c.DisconnectClient > 0:
		return PipelineSession
	}
	return PipelinePerformance
}

// KeepAuto is the default of failover_keep_sessions.
const KeepAuto = "auto"

// ResolvedKeepSessions returns the failover_keep_sessions in use. auto means known with failover,
// otherwise off.
func (c *Config) ResolvedKeepSessions() string {
	switch {
	case c.FailoverKeepSessions != KeepAuto:
		return c.FailoverKeepSessions
	case c.Failover:
		return "known"
	}
	return "off"
}

// OpensManagement says that the management port is open: nobody could log in without an admin.
func (c *Config) OpensManagement() bool { return c.Management > 0 && len(c.Admins) > 0 }

// KeyPort is a port to listen on.
type KeyPort struct {
	Key  string
	Port int
}

// Ports returns the ports that are opened.
func (c *Config) Ports() []KeyPort {
	list := []KeyPort{{"port", c.Port}, {"metrics", c.Metrics}, {"console", c.Console}}
	if c.OpensManagement() {
		list = append(list, KeyPort{"management", c.Management})
	}
	return slices.DeleteFunc(list, func(p KeyPort) bool { return p.Port == 0 })
}

// OffersTLS says that clients may encrypt their connections.
func (c *Config) OffersTLS() bool { return c.TLS == TLSAllow || c.TLS == TLSRequire }

// ClientTLSFiles names the files that TLS to clients needs.
func (c *Config) ClientTLSFiles() tlspolicy.Files {
	f := tlspolicy.Files{CA: c.TLSCAFile, CRL: c.TLSCRLFile}
	certs, keys := commaList(c.TLSCertFile), commaList(c.TLSKeyFile)
	for i := range max(len(certs), len(keys)) {
		var p tlspolicy.PairFiles
		if i < len(certs) {
			p.Cert = certs[i]
		}
		if i < len(keys) {
			p.Key = keys[i]
		}
		f.Pairs = append(f.Pairs, p)
	}
	return f
}

// ClientTLSOptions returns what TLS to clients may use.
func (c *Config) ClientTLSOptions() (tlspolicy.Options, error) {
	return tlspolicy.ParseOptions(c.TLSMinVersion, c.TLSCurves, c.TLSCiphers)
}

// TLSOptions returns what TLS to the server may use.
func (s *Server) TLSOptions() (tlspolicy.Options, error) {
	return tlspolicy.ParseOptions(s.TLSMinVersion, s.TLSCurves, s.TLSCiphers)
}

// TLSFiles names the files that TLS to the server needs.
func (s *Server) TLSFiles() tlspolicy.Files {
	f := tlspolicy.Files{CA: s.TLSCAFile, CRL: s.TLSCRLFile}
	if s.TLSCertFile != "" || s.TLSKeyFile != "" {
		f.Pairs = []tlspolicy.PairFiles{{Cert: s.TLSCertFile, Key: s.TLSKeyFile}}
	}
	return f
}

// DecidesFailover says whether pgagroal itself takes a dead primary out of use, whether it or
// somebody else promotes the next one.
func (c *Config) DecidesFailover() bool { return c.Failover && c.FailoverMode != ModeOff }

// EffectiveWorkers returns the number of worker processes to start.
func (c *Config) EffectiveWorkers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return min(max(runtime.NumCPU(), 1), 64)
}

// DefaultStateDir is the first directory to try when state_dir is unset. The
// distribution packages create it.
const DefaultStateDir = "/var/lib/pgagroal"

// ClientsDatabase is the value of auth_query_database for the database that the client has named.
const ClientsDatabase = "*"

// AuthQueryStatement is the default of auth_query_statement. Like PostgreSQL it knows no password of a role that may not
// log in, or whose password has expired.
const AuthQueryStatement = "SELECT rolpassword FROM pg_catalog.pg_authid " +
	"WHERE rolname = $1 AND rolcanlogin AND (rolvaliduntil IS NULL OR rolvaliduntil > now())"

// maxAuthQuery is the greatest length of auth_query_statement, in bytes: each request of a worker brings it to the prober.
const maxAuthQuery = 4096

// AuthQueryCredential returns the credential as which auth_query asks. It is nil if there is none.
func (c *Config) AuthQueryCredential() *Credential {
	if c.AuthQueryUser == "" {
		return c.Superuser
	}
	return c.credentialOf(c.AuthQueryUser)
}

// ProbeCredential returns the credential of health_check_user. It is nil if the key isn't set or the user has none.
func (c *Config) ProbeCredential() *Credential {
	if c.HealthCheckUser == "" {
		return nil
	}
	return c.credentialOf(c.HealthCheckUser)
}

// credentialOf returns the credential of one of pgagroal's own users, or nil.
func (c *Config) credentialOf(name string) *Credential {
	if c.Superuser != nil && c.Superuser.Name == name {
		return c.Superuser
	}
	i := slices.IndexFunc(c.Users, func(u Credential) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Users[i]
}

// ProbeUserUnknown returns a warning if the users file has no entry for health_check_user, otherwise "". A start only
// warns, because servers may let the user in without a password.
func (c *Config) ProbeUserUnknown() string {
	if c.HealthCheckUser == "" || c.ProbeCredential() != nil {
		return ""
	}
	file := c.Paths.UsersFile()
	return fmt.Sprintf("%s has no entry in %s, so probes have no password; pgagroal-admin -f %s user add -U %s (any password, if the servers ask it for none)",
		c.HealthCheckUser, file, file, c.HealthCheckUser)
}

// EffectivePIDFile returns the path of the pid file.
func (c *Config) EffectivePIDFile() string {
	if c.PIDFile != "" {
		return c.PIDFile
	}
	return filepath.Join(c.UnixSocketDir, fmt.Sprintf("pgagroal.%d.pid", c.Port))
}
