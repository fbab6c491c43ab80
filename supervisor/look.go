package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// What an operator sees of servers, pools and clients. All of it is known here or in the workers,
// so no server is asked and none can delay an answer.

// kickLimit is how long a worker has to disconnect a client, which takes it a moment.
const kickLimit = 5 * time.Second

// Clients returns all clients.
func (o operator) Clients(ctx context.Context) (control.ClientsResponse, error) {
	return ask(ctx, o.s, func(answer func(control.ClientsResponse, error)) {
		o.s.askReportsFor(&ipc.ReportRequest{Clients: true}, func(r *report) { answer(o.s.clientsResponse(r), nil) })
	})
}

// Pools returns the pools that have connections or waiting clients.
func (o operator) Pools(ctx context.Context) (control.PoolsResponse, error) {
	return ask(ctx, o.s, func(answer func(control.PoolsResponse, error)) {
		o.s.askReports(true, func(r *report) { answer(o.s.poolsResponse(r), nil) })
	})
}

// Servers returns the servers with the connections to each.
func (o operator) Servers(ctx context.Context) (control.ServersResponse, error) {
	return ask(ctx, o.s, func(answer func(control.ServersResponse, error)) {
		o.s.askReports(true, func(r *report) { answer(o.s.serversResponse(r), nil) })
	})
}

func (s *supervisor) clientsResponse(rep *report) control.ClientsResponse {
	r := control.ClientsResponse{Clients: []control.Client{}}
	for _, c := range rep.sessions {
		if c.ClientID == 0 {
			continue
		}
		r.Clients = append(r.Clients, control.Client{
			ID: c.ClientID, State: c.State, Database: c.Database, Username: c.User, AppName: c.AppName, Client: c.Client,
			StartTime: c.Start, PID: c.PID, Server: s.serverName(c.Server), Worker: c.worker,
		})
	}
	slices.SortFunc(r.Clients, func(a, b control.Client) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

func (s *supervisor) poolsResponse(rep *report) control.PoolsResponse {
	type key struct{ database, user string }
	at := map[key]*control.Pool{}
	now := s.env.wall().Unix()
	for _, x := range rep.sessions {
		k := key{x.Database, x.User}
		p := at[k]
		if p == nil {
			p = &control.Pool{Database: k.database, Username: k.user, Paused: s.clients.pauses.holds(poolKey(ipc.PoolKey{Database: k.database}))}
			at[k] = p
		}
		switch {
		case x.Lease == 0:
			p.Waiting++
			p.Waited = max(p.Waited, now-x.WaitingSince)
		case x.State == "free":
			p.Idle++
		default:
			p.Active++
		}
	}
	r := control.PoolsResponse{AllPaused: s.clients.pauses[""] != nil, Pools: []control.Pool{}}
	for _, p := range at {
		r.Pools = append(r.Pools, *p)
	}
	slices.SortFunc(r.Pools, func(a, b control.Pool) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Username, b.Username))
	})
	return r
}

func (s *supervisor) serversResponse(rep *report) control.ServersResponse {
	st := s.servers.machine.Status(s.env.now())
	r := control.ServersResponse{Servers: []control.ServerLine{}}
	for i, sv := range st.Each() {
		line := control.ServerLine{Server: s.serverStatus(st, i), Probe: sv.Seen, ProbeAge: -1, Timeline: sv.Timeline, LSN: lsn(sv.LSN)}
		if sv.Seen != "" {
			line.ProbeAge = seconds(sv.SeenAge)
		}
		for _, x := range rep.sessions {
			switch {
			case x.Lease == 0 || x.Server != i:
			case x.State == "free":
				line.Idle++
			default:
				line.Active++
			}
		}
		r.Servers = append(r.Servers, line)
	}
	return r
}

var errNoClient = errors.New("there is no such client: pgagroal-cli clients lists them")

// Kick disconnects a client.
func (o operator) Kick(ctx context.Context, client uint64) error {
	_, err := ask(ctx, o.s, func(answer func(struct{}, error)) {
		o.s.kick(client, func(err error) { answer(struct{}{}, err) })
	})
	return err
}

func (s *supervisor) kick(client uint64, done func(error)) { s.kickAt(client, nil, done) }

// kickAt asks the client's worker to disconnect it. before is who was asked last and didn't have it.
func (s *supervisor) kickAt(client uint64, before *child, done func(error)) {
	at := s.workerOf(client)
	if at == nil {
		done(errNoClient)
		return
	}
	k := &kick{}
	k.round = s.newRound(kickLimit, func() {
		delete(s.rounds.kicks, k.round.id)
		switch {
		case len(k.round.missing) > 0:
			done(fmt.Errorf("the worker of the client has not answered within %s", kickLimit))
		case !k.found && !(at == before && at.clients[client]):
			s.kickAt(client, at, done) // it has left, or changed its worker meanwhile, or was on its way and came back
		case !k.found:
			done(errNoClient)
		default:
			done(nil)
		}
	})
	if s.rounds.kicks == nil {
		s.rounds.kicks = map[uint64]*kick{}
	}
	s.rounds.kicks[k.round.id] = k
	s.ask(k.round, []*child{at}, &ipc.Kick{ID: k.round.id, Client: client})
}

// workerOf returns the worker of a client, nil if there is none.
func (s *supervisor) workerOf(client uint64) (at *child) {
	s.ready(func(c *child) {
		if c.clients[client] {
			at = c
		}
	})
	return at
}

// kick is a round that disconnects a client.
type kick struct {
	round *round
	found bool
}

func (s *supervisor) onKicked(c *child, m *ipc.Kicked) {
	if k := s.rounds.kicks[m.ID]; k != nil && k.round.awaits(c) {
		k.found = m.Found
		s.answered(k.round, c)
	}
}
