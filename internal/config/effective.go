package config

import (
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
)

// ResolvedPipeline returns the pipeline in use: auto is session when failover, TLS to clients or
// disconnect_client needs it, else performance.
func (c *Config) ResolvedPipeline() string {
	switch {
	case c.Pipeline != PipelineAuto:
		return c.Pipeline
	case c.Failover, c.OffersTLS(), c.DisconnectClient > 0:
		return PipelineSession
	}
	return PipelinePerformance
}

// OffersTLS says that clients may encrypt their connections.
func (c *Config) OffersTLS() bool { return c.TLS == TLSAllow || c.TLS == TLSRequire }

// ClientTLSFiles names the files that TLS to clients needs.
func (c *Config) ClientTLSFiles() tlspolicy.Files {
	return tlspolicy.Files{Pairs: []tlspolicy.PairFiles{{Cert: c.TLSCertFile, Key: c.TLSKeyFile}}}
}

// DecidesFailover says whether pgagroal takes a dead primary out of use, no matter who
// replaces it.
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

// EffectivePIDFile returns the path of the pid file.
func (c *Config) EffectivePIDFile() string {
	if c.PIDFile != "" {
		return c.PIDFile
	}
	return filepath.Join(c.UnixSocketDir, fmt.Sprintf("pgagroal.%d.pid", c.Port))
}
