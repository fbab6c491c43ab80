package main

import (
	"fmt"
	"path/filepath"
)

const haproxyProgram = "haproxy"

// configureHAProxy makes HAProxy forward bytes on one thread: the minimum for a program
// between client and server, though it shares no connections.
func (r *rig) configureHAProxy(p *pooler, _ workload) ([]string, error) {
	file := filepath.Join(p.dir, "haproxy.cfg")
	text := fmt.Sprintf("global\n\tnbthread 1\n\tmaxconn 1000\ndefaults\n\tmode tcp\n\ttimeout connect 5s\n\ttimeout client 1h\n"+
		"\ttimeout server 1h\nlisten bench\n\tbind %s\n\tserver primary 127.0.0.1:%d\n", p.addr(), r.serverPort())
	if err := r.writeFile(file, text); err != nil {
		return nil, err
	}
	return []string{r.proxy, "-db", "-f", file}, nil
}
