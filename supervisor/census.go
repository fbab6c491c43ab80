package supervisor

// census counts the clients that are in, all and by name, for the limits of clients. A client
// that must ask first is pending until it is let in or has left. The zero census is empty.
type census struct {
	pending   map[uint64]bool
	named     map[uint64]clientNames
	users     map[string]int
	databases map[string]int
}

// clientNames are the names under which a client counts.
type clientNames struct{ user, database string }

// wait makes a new client pending.
func (x *census) wait(id uint64) {
	if x.pending == nil {
		x.pending = map[uint64]bool{}
	}
	x.pending[id] = true
}

// count counts a client under its names until it leaves.
func (x *census) count(id uint64, n clientNames) {
	if x.named == nil {
		x.named, x.users, x.databases = map[uint64]clientNames{}, map[string]int{}, map[string]int{}
	}
	x.named[id] = n
	x.users[n.user]++
	x.databases[n.database]++
}

// leave forgets a client.
func (x *census) leave(id uint64) {
	delete(x.pending, id)
	n, ok := x.named[id]
	if !ok {
		return
	}
	delete(x.named, id)
	lower(x.users, n.user)
	lower(x.databases, n.database)
}

func lower(counts map[string]int, name string) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}
