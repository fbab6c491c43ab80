package worker

import (
	"time"

	conf "github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// limits are the lines of pgagroal_databases.conf, as far as a worker needs them.
type limits struct {
	lines []conf.Limit
	// shortest is the shortest query_timeout of a line, 0 for none.
	shortest time.Duration
}

func (l *limits) add(m *ipc.ConfigLimit) {
	line := conf.Limit{Database: conf.Names(m.Database), Aliases: m.Aliases, User: conf.Names(m.User), QueryTimeout: conf.Unset}
	if m.QueryMS >= 0 {
		line.QueryTimeout = ms(m.QueryMS)
	}
	if d := line.QueryTimeout; d > 0 && (l.shortest == 0 || d < l.shortest) {
		l.shortest = d
	}
	l.lines = append(l.lines, line)
}

// queryTimeout returns the query_timeout for a client, 0 for none. usual is that of the main
// section.
func (l *limits) queryTimeout(who *login, usual time.Duration) time.Duration {
	i := conf.FindLimit(l.lines, who.requested, who.user)
	if i < 0 || l.lines[i].QueryTimeout == conf.Unset {
		return usual
	}
	return l.lines[i].QueryTimeout
}
