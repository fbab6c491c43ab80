package checkup

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor"
)

const aboutServers = "servers"

// together says what the servers say together.
func (f *findings) together(c *config.Config, looks []look) {
	var primaries []*look
	var names []string
	answered := 0
	for i := range looks {
		k := &looks[i]
		if k.answered {
			answered++
		}
		if k.seen.Outcome == ipc.SawPrimary {
			primaries, names = append(primaries, k), append(names, k.sv.Name)
		}
	}
	switch {
	case answered == 0:
		return // each server has said why
	case len(primaries) == 0:
		f.add(Error, aboutServers, "", "promote one, or correct host and port of the primary", "no server that could be looked at is a primary: clients can't write")
	case len(primaries) > 1:
		f.add(Error, aboutServers, "", "stop all but the right one at once", "%s are all primaries (split brain)", strings.Join(names, " and "))
	default:
		f.besidePrimary(c, primaries[0], looks)
	}
	f.system(looks)
}

// besidePrimary compares the only primary with the configuration and the standbys.
func (f *findings) besidePrimary(c *config.Config, p *look, looks []look) {
	for i := range looks {
		k := &looks[i]
		if k.sv.Primary && k != p {
			f.add(Note, k.about(), placeOf(k.sv.File, k.sv.Line), "move primary = on to ["+p.sv.Name+"]",
				"primary = on, and the primary is %s; pgagroal finds that out, but a first start without an answer goes by the hint", p.sv.Name)
		}
		if k != p && k.seen.Outcome == ipc.SawStandby {
			f.besideStandby(c, p, k)
			f.settings(c, k)
		}
	}
	if names, known := p.settings["synchronous_standby_names"]; c.Failover && known && names == "" {
		f.add(Note, p.about(), "", "synchronous_standby_names and synchronous_commit = on, if none may be lost",
			"replication is asynchronous: a failover loses the transactions that the standby has not received")
	}
}

func (f *findings) besideStandby(c *config.Config, p, k *look) {
	primary, standby := p.seen.Obs, k.seen.Obs
	if primary.Timeline != 0 && standby.Timeline != 0 && standby.Timeline != primary.Timeline {
		f.add(Warning, k.about(), "", "look whether it follows "+p.sv.Name+"; pg_rewind or rebuild it if it doesn't",
			"timeline %d, and %s is on timeline %d", standby.Timeline, p.sv.Name, primary.Timeline)
	}
	behind := int64(primary.WriteLSN) - int64(max(standby.ReceiveLSN, standby.ReplayLSN))
	if c.Failover && c.FailoverMaxLag > 0 && primary.WriteLSN > 0 && behind > c.FailoverMaxLag {
		f.add(Warning, k.about(), c.Place("failover_max_lag"), "wait until it has caught up, or look why it doesn't",
			"it is %d bytes behind, more than failover_max_lag: it would not be promoted", behind)
	}
	if p.seen.Version != "" && k.seen.Version != "" && p.seen.Version != k.seen.Version {
		f.add(Note, k.about(), "", "bring both to the same version", "PostgreSQL %s, and %s is %s", k.seen.Version, p.sv.Name, p.seen.Version)
	}
}

// settings adds what a rehearsal would say of the parameters of a standby.
func (f *findings) settings(c *config.Config, k *look) {
	for _, x := range supervisor.StandbyFindings(k.sv.Name, k.settings, true, len(c.Servers)) {
		level := Note
		if c.Failover && k.sv.FailoverCandidate {
			if level = Warning; x.Grave {
				level = Error
			}
		}
		f.add(level, k.about(), "", x.Hint, "%s", x.Text)
	}
}

// system compares the system identifiers: servers of two clusters can't be one another's standbys.
func (f *findings) system(looks []look) {
	var ids []uint64
	var texts []string
	for i := range looks {
		if id := looks[i].seen.Obs.SystemID; id != 0 {
			texts = append(texts, fmt.Sprintf("%s has %d", looks[i].sv.Name, id))
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > 1 {
		f.add(Error, aboutServers, "", "name servers of one cluster", "the servers are not of one cluster, by their system identifiers: %s", strings.Join(texts, ", "))
	}
}
