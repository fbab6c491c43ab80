package worker

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// maxSetups is how many clients a worker may be setting up. It closes further clients at
// once.
const maxSetups = 8192

// client is a client's connection from its hand-over to its end.
type client struct {
	id    uint64
	addr  string // "host:port", empty for a Unix socket
	start time.Time
	// minor is the minor version of protocol 3 that the client speaks. It is set before
	// the session begins.
	minor uint16
	// ask says that the supervisor must be asked before the client is authenticated.
	ask bool
	// leaves says that the client has left something on a backend: see leftovers.go.
	leaves bool
	// since is the time of the login, before that of the session's beginning, in Unix
	// seconds. It is small because there are very many clients.
	since uint32
	// stood is what the last look at the session has found: see watch.go.
	stood stood
	// conn is set during the set-up, session afterwards.
	conn    socket
	session *session
}

// login is what a client asked for in its start-up packet.
type login struct {
	user      string
	database  string         // real name
	requested string         // as the client named it
	follow    relay.Params   // tracked parameters, which a backend takes over from its client
	rest      []pgwire.Param // other parameters, which are part of key
	key       ipc.PoolKey
	unproven  bool // only the server can authenticate the user
	// stored is what the user has proven its password against, nil for a user with an entry.
	// It belongs to the loop.
	stored *storedUser
	shares int // sessions that share the login: see share
}

func (l *login) application() string {
	v, _ := l.follow.Get("application_name")
	return v
}

// maxApplication is the longest application_name on a server, in bytes.
const maxApplication = 63

// addHost adds the client's address to its application_name, and cuts the name if both are
// too long. It leaves out the port, because with the port every client's name would be
// different.
func (l *login) addHost(addr string) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return
	}
	name, host := l.application(), ap.Addr().Unmap().String()
	if name != "" {
		host = " - " + host
	}
	l.follow.Set("application_name", name[:min(len(name), max(maxApplication-len(host), 0))]+host)
}

// errNoRoom says that this process has no free descriptors.
var errNoRoom = errors.New("too many open files")

var errTooManySetups = errors.New("too many clients are being set up")

// maxShared is how many different logins of a pool are kept for sharing.
const maxShared = 1000

// loginKey identifies a login within its pool. A client that was looked up doesn't share the
// login of one that wasn't, because backends are opened for it in another way.
type loginKey struct {
	requested, application string
	lookedUp               bool
}

func (l *login) shareKey() loginKey {
	return loginKey{l.requested, l.application(), l.stored != nil}
}

// share returns the login that a session keeps after its start. Sessions with equal logins
// share one, so that idle clients need less memory.
func (w *worker) share(l *login) *login {
	p := w.shelf.Lookup(pool.Key(l.key))
	if p == nil {
		return l
	}
	f := factsOf(p)
	k := l.shareKey()
	same := f.logins[k]
	switch {
	case same != nil:
		same.stored = l.stored // the later one counts
	case len(f.logins) < maxShared:
		f.logins[k], same = l, l
	default:
		return l
	}
	same.shares++
	return same
}

// unshare ends the share of a session. The last one's login is forgotten, with what its user
// has proven.
func (w *worker) unshare(l *login) {
	if l.shares--; l.shares > 0 {
		return
	}
	if p := w.shelf.Lookup(pool.Key(l.key)); p != nil {
		if f := factsOf(p); f.logins[l.shareKey()] == l {
			delete(f.logins, l.shareKey())
		}
	}
}

// onNewClient takes over the socket of a client and starts the set-up. fds is empty if this
// process had no free descriptor for the socket; then only this client is lost.
func (w *worker) onNewClient(m *ipc.NewClient, fds []int) {
	c := &client{id: m.ID, addr: m.Address, start: time.Now(), ask: m.Ask}
	d, err := w.setUp(c, fds)
	if err != nil {
		w.log.Warn("client closed before its set-up", "client", m.ID, "error", err)
		w.tellGone(m.ID)
		return
	}
	c.conn = d
	w.clients[c.id] = c
	w.burst.Note()
	d.wake()
}

// setUp begins the dialogue with a client.
func (w *worker) setUp(c *client, fds []int) (*dialogue, error) {
	if len(fds) == 0 {
		return nil, errNoRoom
	}
	if len(w.clients)-w.sessions >= maxSetups {
		turnAway(fds[0])
		return nil, errTooManySetups
	}
	return w.coroutines.begin(w.loop, fds[0], func(d *dialogue) {
		s := setup{w: w, c: c, cfg: w.cfg, d: d, conn: d, log: w.log.With("client", c.id)}
		s.run()
	})
}

// turnAway tells a client that too many clients log in, and closes its socket. It doesn't
// wait for the client.
func turnAway(fd int) {
	// Read what it has sent: closing a socket with unread bytes would discard the answer.
	_, _, _ = unix.Recvfrom(fd, make([]byte, 4096), unix.MSG_DONTWAIT)
	_ = unix.Sendto(fd, pgwire.RefusalTooManyLogins.With().Append(nil), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
	unix.Close(fd)
}

// gone removes a client whose socket is closed.
func (w *worker) gone(c *client) {
	if w.clients[c.id] != c {
		return
	}
	delete(w.clients, c.id)
	w.tellGone(c.id)
	if w.cfg.LogDisconnections {
		logline.Unlimited(w.log).Info("disconnection", "client", c.id, "address", c.addr, "lasted", time.Since(c.start).Round(time.Millisecond))
	}
	w.checkDrained()
}

// Clients that have left are reported to the supervisor in batches. Where each client
// connects for one query only, the supervisor would otherwise wake up twice per client.
const (
	goneDelay = 20 * time.Millisecond
	goneMax   = 1000
)

func (w *worker) tellGone(id uint64) {
	w.goneIDs = append(w.goneIDs, id)
	switch len(w.goneIDs) {
	case 1:
		w.loop.After(goneDelay, w.flushGone)
	case goneMax:
		w.flushGone()
	}
}

func (w *worker) flushGone() {
	if len(w.goneIDs) > 0 {
		w.send(&ipc.ClientsGone{IDs: w.goneIDs})
		w.goneIDs = nil
	}
}
