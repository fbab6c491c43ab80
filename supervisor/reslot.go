package supervisor

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// A reload may add, remove, move, rename and re-order servers. To all processes a server is its
// slot (config.Config.Slot), which stays, so only the slots that have another server begin anew.
// Nobody is disconnected: what is still connected to a removed server keeps its lease until it
// lets go, and nothing is opened there any more.

var errServerGone = errors.New("the server is not configured any more")

// refusesServers returns why the servers of a configuration can't be put in effect now, or "".
func (s *supervisor) refusesServers(c *config.Config) string {
	if why := s.servers.machine.Refuses(machineConfig(c)); why != "" {
		return why
	}
	if n := s.stillRetired(); n > 0 && bringsServers(s.cfg, c) {
		return fmt.Sprintf("servers can't be added or moved while %d workers that were replaced still have clients: these workers know only the servers of before; "+
			"reload again when they have ended, which upgrade_timeout limits", n)
	}
	for slot, name := range config.Successors(s.cfg, c) {
		if n := s.ledger.On(slot); n > 0 {
			return fmt.Sprintf("%s can't move: %d connections to the server that it was are still open; reload again when they have ended", name, n)
		}
	}
	return ""
}

// bringsServers reports whether next has a server that was, at the same host and port, has not. A worker that retires
// gets no configuration: it would neither encrypt the connection to such a server nor check who that is.
func bringsServers(was, next *config.Config) bool {
	for slot, is := range next.InSlots() {
		if otherServer(was.Slot(slot), is) {
			return true
		}
	}
	return false
}

// otherServer reports whether a slot has another server than before.
func otherServer(was, is *config.Server) bool {
	return (was == nil) != (is == nil) || was != nil && (was.Host != is.Host || was.Port != is.Port)
}

// serversAfterReload begins anew with the slots that have another server, and returns the looks
// at the servers of before, which the next prober must not repeat: it doesn't know how to encrypt
// them.
func (s *supervisor) serversAfterReload(old *config.Config) (changed bool, gone []*look) {
	for slot := range s.cfg.Slots() {
		is := s.cfg.Slot(slot)
		if !otherServer(old.Slot(slot), is) {
			continue
		}
		changed = true
		gone = append(gone, s.takeLooks(slot)...)
		s.servers.occupy(slot, is)
		s.console.figures.occupy(slot)
		if is != nil {
			s.keepResolving(slot)
		}
	}
	return changed, gone
}

// takeLooks removes the looks at a server, and returns them. The caller calls done.
func (s *supervisor) takeLooks(slot int) []*look {
	x := &s.servers.prober.looks
	var taken []*look
	at := func(l *look) bool { return targetOf(l.request).Server == slot }
	for _, id := range slices.Sorted(maps.Keys(x.sent)) {
		if l := x.sent[id]; at(l) {
			delete(x.sent, id)
			taken = append(taken, l)
		}
	}
	for _, l := range x.waiting {
		if at(l) {
			taken = append(taken, l)
		}
	}
	x.waiting = slices.DeleteFunc(x.waiting, at)
	for _, l := range taken {
		s.timers.stop(l.limit)
	}
	return taken
}

// targetOf returns the server that a request to the prober is about.
func targetOf(m ipc.Message) ipc.Target {
	switch m := m.(type) {
	case *ipc.ProbeRequest:
		return m.Target
	case *ipc.BackendsRequest:
		return m.Target
	case *ipc.SettingsRequest:
		return m.Target
	case *ipc.ServerCancel:
		return m.Target
	case *ipc.QuestionRequest:
		return m.Target
	case *ipc.LookUpRequest:
		return m.Target
	}
	panic(fmt.Sprintf("supervisor: a look without a target: %T", m))
}
