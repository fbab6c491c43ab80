package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// How a backend gets from one worker to another:
//
//  1. A worker takes an idle backend out of its event loop (handOver). Until the
//     loop has released it, it still belongs to this worker, and a fence aborts it.
//  2. The backend's state and descriptor go to the supervisor, and from there to the
//     worker of a waiting client, or back. A later fence finds the backend there,
//     because links keep the order of messages.
//  3. The other worker adds the backend to its own loop (onTakeOver).
//
// An encrypted connection can't move, because the keys stay in this process. It is closed,
// and the other worker opens a new one.
//
// During the hand-over nothing is sent to the server, and nothing that it sends is lost.

// maxState limits the text of a backend's state, in bytes, because a packet of a link holds
// 64 KiB. A backend with more text is closed instead of handed over.
const maxState = 40 << 10

// handOver hands an idle backend over to a client of another worker.
func (w *worker) handOver(b *backend) {
	if b.conn.Secured() != nil {
		w.closeBackend(b) // the lease goes, the connection can't
		return
	}
	state := b.portable()
	if sizeOf(&state) > maxState {
		w.closeBackend(b)
		return
	}
	b.state = backendMoving
	b.conn.Detach(func(fd int) {
		if fd < 0 { // the server has sent something
			w.closeBackend(b)
			return
		}
		w.handedOver(b, &state, fd)
	})
}

func (w *worker) handedOver(b *backend, state *ipc.BackendState, fd int) {
	if w.debug() {
		w.log.Debug("backend is handed over", "server", w.serverName(b.server), "backend", b.pid, "lease", b.Lease)
	}
	b.state = backendClosed
	state.Flushed = b.Flushed
	b.leftovers.Stop()
	delete(w.backends, b.Lease)
	w.shelf.Gone(&b.shelved)
	w.send(&ipc.HandOver{Lease: b.Lease, Backend: *state}, fd)
	w.shelf.Want(b.Pool, w.now())
	w.carryOut()
	w.checkDrained()
}

// onTakeOver adds a backend of another worker, or one that this worker handed over but
// that no client needs any more. fds is empty if this process had no free descriptor.
func (w *worker) onTakeOver(m *ipc.TakeOver, fds []int) {
	w.emptied = false
	b := w.takenOver(m, fds)
	if b == nil {
		w.returnLease(m.Lease)
		w.shelf.Unanswered(m.ID, w.now())
		w.carryOut()
		return
	}
	w.backends[b.Lease] = b
	w.shelf.TakeOver(m.ID, pool.Key(m.Backend.Key), &b.shelved, w.now())
	w.placed(b)
	w.passSoon()
}

// takenOver adds a backend of another worker to the loop, or returns nil if that is
// impossible.
func (w *worker) takenOver(m *ipc.TakeOver, fds []int) *backend {
	if len(fds) == 0 {
		return nil
	}
	b := w.moved(m)
	if b.Epoch <= w.fenced || w.exit != 0 {
		reactor.Abort(fds[0])
		return nil
	}
	conn, err := w.loop.Add(fds[0], (*backendEnd)(b))
	if err != nil {
		w.log.Error("backend lost between two workers", "server", w.serverName(b.server), "backend", b.pid, "error", err)
		return nil
	}
	b.conn, b.since = conn, w.loop.Now()
	return b
}

// portable returns the state that another worker needs.
func (b *backend) portable() ipc.BackendState {
	held := b.Holding()
	s := ipc.BackendState{
		Key: ipc.PoolKey(b.Pool.Key), Server: b.server, Epoch: b.Epoch, PID: b.pid, Secret: ipc.Secret(b.key),
		AgeMS: (time.Since(b.w.born) - b.Born).Milliseconds(), NoPassword: b.Trusting, Dirty: b.Dirty, Sequences: b.Sequences, DirtyBy: b.DirtyBy,
		Base: settingsOf(&b.Base), Params: settingsOf(&b.Params), Serial: held.Serial, Lost: held.Lost,
	}
	for _, st := range held.Statements {
		s.Statements = append(s.Statements, ipc.PreparedStatement{Key: st.Key, Name: st.Name})
	}
	return s
}

// moved returns the backend whose state another worker has sent.
func (w *worker) moved(m *ipc.TakeOver) *backend {
	s := &m.Backend
	b := w.newBackend(nil, m.Lease, s.Epoch, s.Server)
	b.Born -= ms(s.AgeMS)
	b.Flushed = s.Flushed
	b.Trusting, b.pid, b.key = s.NoPassword, s.PID, []byte(s.Secret.Reveal())
	b.Backend = relay.Backend{Base: paramsFrom(s.Base), Params: paramsFrom(s.Params), Dirty: s.Dirty, Sequences: s.Sequences, DirtyBy: s.DirtyBy}
	known := relay.Holding{Serial: s.Serial, Lost: s.Lost}
	for _, st := range s.Statements {
		known.Statements = append(known.Statements, relay.Held{Key: st.Key, Name: st.Name})
	}
	b.Restore(known)
	return b
}

// sizeOf returns the size of the text in a state.
func sizeOf(s *ipc.BackendState) int {
	n := len(s.Key.Database) + len(s.Key.User) + len(s.Key.Params)
	for _, list := range [][]ipc.Setting{s.Base, s.Params} {
		for i := range list {
			n += len(list[i].Name) + len(list[i].Value) + 16
		}
	}
	for i := range s.Statements {
		n += len(s.Statements[i].Key) + len(s.Statements[i].Name) + 16
	}
	for _, name := range s.Lost {
		n += len(name) + 4
	}
	return n
}

func settingsOf(p *relay.Params) []ipc.Setting {
	list := make([]ipc.Setting, len(p.All()))
	for i, param := range p.All() {
		list[i] = ipc.Setting{Name: param.Name, Value: param.Value}
	}
	return list
}

func paramsFrom(settings []ipc.Setting) relay.Params {
	list := make([]pgwire.Param, len(settings))
	for i := range settings {
		list[i] = pgwire.Param{Name: settings[i].Name, Value: settings[i].Value}
	}
	return relay.ParamsOf(list)
}
