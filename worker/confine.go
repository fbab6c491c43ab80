package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// confineWorker takes away from this process everything that a worker doesn't need. The
// worker can then only connect to the servers of its configuration, never to another port,
// and move bytes with its event loop. Call confineWorker after everything is open and
// before the first client.
func confineWorker(cfg *config, reactor string, supervisor *ipc.Conn) (confine.Report, *bounds, error) {
	theirs, err := supervisor.PeerCred()
	if err != nil {
		return confine.Report{}, nil, err
	}
	own := int(theirs.Uid) != os.Getuid()
	p := confine.Policy{Ring: reactor == "io_uring"}
	for _, s := range cfg.servers {
		if dir, ok := socketDir(&s); ok {
			p.SocketDirs = append(p.SocketDirs, dir)
		} else {
			p.Ports = append(p.Ports, uint16(s.Port))
		}
	}
	hidden := proc.Concealed() // before Apply, which forbids this system call
	r, err := confine.Apply(p)
	if err != nil {
		return r, nil, err
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
	return r, &bounds{p, r.OnlyPorts, r.OnlyDirs}, nil
}

// socketDir returns the directory of a server's Unix socket, if that is where it is.
func socketDir(s *ipc.ConfigServer) (string, bool) {
	return filepath.Clean(s.Host), strings.HasPrefix(s.Host, "/")
}

// bounds is where a worker can connect to, which no reload can change.
type bounds struct {
	confine.Policy
	onlyPorts, onlyDirs bool // the kernel forbids the rest
}

// misses returns an error if the worker can't connect to a server of a configuration. r is nil if nothing confines it.
func (r *bounds) misses(c *config) error {
	if r == nil {
		return nil
	}
	for i := range c.servers {
		s := &c.servers[i]
		dir, local := socketDir(s)
		switch {
		case local && (slices.Contains(r.SocketDirs, dir) || !r.onlyDirs && len(r.SocketDirs) > 0):
		case !local && (slices.Contains(r.Ports, uint16(s.Port)) || !r.onlyPorts && len(r.Ports) > 0):
		case local:
			return fmt.Errorf("it is confined to the servers that it had at its start, so it can't connect to %s in %s; restart pgagroal for another directory", s.Name, dir)
		default:
			return fmt.Errorf("it is confined to the ports %v, which the servers had at its start, so it can't connect to %s at port %d; restart pgagroal for another port",
				r.Ports, s.Name, s.Port)
		}
	}
	return nil
}
