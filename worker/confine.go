package worker

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// confineWorker takes away from this process everything that a worker doesn't need. The
// worker can then only connect to the servers of its configuration, never to another port,
// and move bytes with its event loop. Call confineWorker after everything is open and
// before the first client.
func confineWorker(cfg *config, reactor string, supervisor *ipc.Conn) (confine.Report, error) {
	theirs, err := supervisor.PeerCred()
	if err != nil {
		return confine.Report{}, err
	}
	own := int(theirs.Uid) != os.Getuid()
	p := confine.Policy{Ring: reactor == "io_uring"}
	for _, s := range cfg.servers {
		if strings.HasPrefix(s.Host, "/") {
			p.SocketDirs = append(p.SocketDirs, filepath.Clean(s.Host))
		} else {
			p.Ports = append(p.Ports, uint16(s.Port))
		}
	}
	hidden := proc.Concealed() // before Apply, which forbids this system call
	r, err := confine.Apply(p)
	if err != nil {
		return r, err
	}
	if p.Ring {
		r.InForce = append(r.InForce, "operations of io_uring")
	}
	if own {
		r.InForce = append(r.InForce, "a user of its own")
	}
	if hidden {
		r.InForce = append(r.InForce, "hidden memory")
	} else {
		r.Lacking = append(r.Lacking, "hidden memory ("+proc.CoresVariable+" is on)")
	}
	return r, nil
}
