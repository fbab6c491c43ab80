package worker

import (
	"path/filepath"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// confineWorker takes from this process what no worker needs: it connects to the
// servers of its configuration, moves bytes with the event loop that it has, and
// does nothing else. It comes after everything that has to be opened and before the
// first client. A server on another port is out of reach for it for ever.
func confineWorker(cfg *config, reactor string) (confine.Report, error) {
	p := confine.Policy{Ring: reactor == "io_uring"}
	for _, s := range cfg.servers {
		if strings.HasPrefix(s.Host, "/") {
			p.SocketDirs = append(p.SocketDirs, filepath.Clean(s.Host))
		} else {
			p.Ports = append(p.Ports, uint16(s.Port))
		}
	}
	hidden := proc.Concealed() // no longer to be asked afterwards
	r, err := confine.Apply(p)
	if err != nil {
		return r, err
	}
	if p.Ring {
		r.InForce = append(r.InForce, "operations of io_uring")
	}
	if hidden {
		r.InForce = append(r.InForce, "hidden memory")
	} else {
		r.Lacking = append(r.Lacking, "hidden memory ("+proc.CoresVariable+" is on)")
	}
	return r, nil
}
