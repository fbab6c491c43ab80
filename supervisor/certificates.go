package supervisor

import (
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// maxCertificateFile is how much of a file is searched for its first certificate, and
// maxCertificate how large that may be to be shown.
const (
	maxCertificateFile = 1 << 20
	maxCertificate     = 32 << 10
)

// certificates returns the first certificate of each file of the configuration, for the
// console to show when it ends.
func certificates(c *config.Config) []ipc.ConsoleCertificate {
	var list []ipc.ConsoleCertificate
	add := func(scope string, paths ...string) {
		for _, path := range paths {
			if path != "" && path != "system" {
				list = append(list, certificateIn(scope, path))
			}
		}
	}
	add("pgagroal", c.TLSCertFile, c.TLSCAFile)
	add("metrics", c.MetricsCertFile, c.MetricsCAFile)
	for i := range c.Servers {
		add(c.Servers[i].Name, c.Servers[i].TLSCertFile, c.Servers[i].TLSCAFile)
	}
	return list
}

func certificateIn(scope, path string) ipc.ConsoleCertificate {
	m := ipc.ConsoleCertificate{Scope: scope, Path: path}
	text, err := firstOf(path)
	if err != nil {
		return m
	}
	m.Accessible = true
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && len(block.Bytes) <= maxCertificate {
			m.DER = string(block.Bytes)
			break
		}
	}
	return m
}

func firstOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("look at a certificate: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxCertificateFile))
}
