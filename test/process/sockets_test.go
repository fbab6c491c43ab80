package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// What can't work as the directory of a socket, ours or the server's, is refused with what
// to write, by the check and at the start.
func TestSocketsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	n := c.Primary()
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 107))
	pool.Must(t, os.Mkdir(long, 0o755))
	for want, set := range map[string]func(s *pool.Setup){
		"unix_socket_dir: too long": func(s *pool.Setup) { s.Keys = map[string]string{"unix_socket_dir": long} },
		"the system allows 107":     func(s *pool.Setup) { s.Servers[0].Host = long },
		fmt.Sprintf("is a socket; write its directory and its number: host = %s, port = %d", n.SocketDir, n.Port): func(s *pool.Setup) {
			s.Servers[0].Host = filepath.Join(n.SocketDir, fmt.Sprintf(".s.PGSQL.%d", n.Port))
		},
		"is not a directory; write the directory of the server's socket": func(s *pool.Setup) { s.Servers[0].Host = "/etc/passwd" },
		"is neither a name nor an absolute path":                         func(s *pool.Setup) { s.Servers[0].Host = "run/postgresql" },
	} {
		s := pool.Setup{Servers: pool.Nodes(c)}
		set(&s)
		p := pool.Prepare(t, s)
		for _, flags := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
			if said := pool.WontStart(t, p.Command("pgagroal", flags...)); !strings.Contains(said, want) {
				t.Errorf("%v says %q, want %q", flags, said, want)
			}
		}
	}
}
