package config

import (
	"iter"
	"slices"
	"strings"
)

// MaxSlots is how many different servers a pgagroal may have from its start to its end. Each costs every worker a few
// kilobytes for its figures.
const MaxSlots = 128

// A server is known to all processes by its slot, which it keeps from reload to reload, whatever its place in the file. The
// slot of a server that is removed stays free for a server of the same name, because connections to it and figures of it
// may be left.

// endpoint is the server that has a slot, or had it last.
type endpoint struct {
	name, host string
	port       int
}

func endpointOf(s Server) endpoint { return endpoint{s.Name, s.Host, s.Port} }

// slots says which slots the servers have: of is by the place in Servers, last by slot.
type slots struct {
	of   []int
	last []endpoint
}

// slotted returns the slots. Those of a configuration that no reload has made are the places in Servers.
func (c *Config) slotted() *slots {
	if c.slots != nil {
		return c.slots
	}
	x := &slots{}
	for i, s := range c.Servers {
		x.of, x.last = append(x.of, i), append(x.last, endpointOf(s))
	}
	return x
}

// Slots returns how many slots there are, those of removed servers included.
func (c *Config) Slots() int {
	if c.slots == nil {
		return len(c.Servers)
	}
	return len(c.slots.last)
}

// Slot returns the server in a slot, nil if there is none.
func (c *Config) Slot(slot int) *Server {
	i := slot
	if c.slots != nil {
		i = slices.Index(c.slots.of, slot)
	}
	if i < 0 || i >= len(c.Servers) {
		return nil
	}
	return &c.Servers[i]
}

// InSlots returns the servers in the order of the file, each with its slot.
func (c *Config) InSlots() iter.Seq2[int, *Server] {
	return func(yield func(int, *Server) bool) {
		for i := range c.Servers {
			slot := i
			if c.slots != nil {
				slot = c.slots.of[i]
			}
			if !yield(slot, &c.Servers[i]) {
				return
			}
		}
	}
}

// pairs returns for each server of fresh which one of running it is, -1 for none. It is the one of the same name, or one
// at the same host and port whose name is gone, which was renamed then.
func pairs(running, fresh []Server) []int {
	byName := func(list []Server, name string) int {
		return slices.IndexFunc(list, func(s Server) bool { return s.Name == name })
	}
	of := make([]int, len(fresh))
	for i, s := range fresh {
		of[i] = byName(running, s.Name)
	}
	for i, s := range fresh {
		if of[i] >= 0 {
			continue
		}
		j := slices.IndexFunc(running, func(r Server) bool { return r.Host == s.Host && r.Port == s.Port && byName(fresh, r.Name) < 0 })
		if !slices.Contains(of, j) {
			of[i] = j
		}
	}
	return of
}

// takeSlots gives c the slots of the running configuration.
func (c *Config) takeSlots(running *Config) {
	had := running.slotted()
	x := &slots{of: pairs(running.Servers, c.Servers), last: slices.Clone(had.last)}
	for i, j := range x.of {
		if j >= 0 {
			x.of[i] = had.of[j]
		}
	}
	for i, s := range c.Servers {
		if x.of[i] >= 0 {
			continue
		}
		x.of[i] = slices.IndexFunc(x.last, func(e endpoint) bool { return e.name == s.Name })
		if x.of[i] < 0 {
			x.of[i] = len(x.last)
			x.last = append(x.last, endpoint{})
		}
	}
	for i, s := range c.Servers {
		x.last[x.of[i]] = endpointOf(s)
	}
	c.slots = x
}

// Successors returns the slots whose next server is at another host or port than the last one, with the name of the last.
// Connections to that one must be gone.
func Successors(running, next *Config) map[int]string {
	changed := map[int]string{}
	had := running.slotted().last
	for slot, s := range next.InSlots() {
		if slot < len(had) && (had[slot].host != s.Host || had[slot].port != s.Port) {
			changed[slot] = had[slot].name
		}
	}
	return changed
}

// diffServers returns the servers that are added, removed or renamed, the changes of the others, and whether their order is
// another one.
func diffServers(running, fresh []Server) []Change {
	of := pairs(running, fresh)
	var changes []Change
	for j, s := range running {
		i := slices.Index(of, j)
		switch {
		case i < 0:
			changes = append(changes, Change{"server." + s.Name, s.Name, "", Live})
		case fresh[i].Name != s.Name:
			changes = append(changes, Change{"server." + s.Name, s.Name, fresh[i].Name, Live})
			fallthrough
		default:
			changes = append(changes, diffServer(s, fresh[i])...)
		}
	}
	for i, s := range fresh {
		if of[i] < 0 {
			changes = append(changes, Change{"server." + s.Name, "", s.Name, Live})
		}
	}
	kept := slices.DeleteFunc(of, func(j int) bool { return j < 0 })
	if !slices.IsSorted(kept) {
		changes = append(changes, Change{"servers", names(running), names(fresh), Live})
	}
	return changes
}

// names lists the names of servers.
func names(list []Server) string {
	var b []string
	for _, s := range list {
		b = append(b, s.Name)
	}
	return strings.Join(b, ", ")
}
