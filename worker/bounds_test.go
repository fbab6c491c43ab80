package worker

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/confine"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// TestWorkerRefusesServersThatItCannotReach: otherwise clients would find out, when that server is the primary.
func TestWorkerRefusesServersThatItCannotReach(t *testing.T) {
	local, remote := ipc.ConfigServer{Name: "local", Host: "/run/pg/", Port: 1}, ipc.ConfigServer{Name: "remote", Host: "h", Port: 5432}
	all := confine.Policy{Ports: []uint16{5432}, SocketDirs: []string{"/run/pg"}}
	for name, c := range map[string]struct {
		bounds *bounds
		s      ipc.ConfigServer
		want   string
	}{
		"nothing confines it":       {nil, remote, ""},
		"a port of the start":       {&bounds{all, true, true}, remote, ""},
		"a directory of the start":  {&bounds{all, true, true}, local, ""},
		"another port":              {&bounds{all, true, true}, ipc.ConfigServer{Name: "other", Host: "h", Port: 5433}, "ports [5432]"},
		"another directory":         {&bounds{all, true, true}, ipc.ConfigServer{Name: "other", Host: "/run/other"}, "/run/other"},
		"a kernel that allows both": {&bounds{all, false, false}, ipc.ConfigServer{Name: "other", Host: "h", Port: 5433}, ""},
		"no TCP at the start":       {&bounds{confine.Policy{SocketDirs: []string{"/run/pg"}}, false, false}, remote, "can't connect to remote"},
		"no socket at the start":    {&bounds{confine.Policy{Ports: []uint16{5432}}, false, false}, local, "can't connect to local"},
	} {
		err := c.bounds.misses(&config{servers: []ipc.ConfigServer{c.s}})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
