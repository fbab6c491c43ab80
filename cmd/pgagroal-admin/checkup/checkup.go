package checkup

import (
	"context"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

// Run looks at the set-up with these files. All servers together take no longer than timeout.
func Run(ctx context.Context, p config.Paths, timeout time.Duration) Report {
	var f findings
	p.FindStateDir = supervisor.StateDir
	c := f.load(p)
	if c == nil {
		return f.report()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	looks := lookAtServers(ctx, c)
	for i := range looks {
		f = append(f, looks[i].findings...)
	}
	f.together(c, looks)
	return f.report()
}

// lookAtServers looks at all servers side by side.
func lookAtServers(ctx context.Context, c *config.Config) []look {
	looks := make([]look, len(c.Servers))
	var all sync.WaitGroup
	for i := range c.Servers {
		looks[i] = look{c: c, sv: &c.Servers[i]}
		all.Go(func() { looks[i].run(ctx) })
	}
	all.Wait()
	return looks
}
