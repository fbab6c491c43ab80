package control

// permit says who may send a command. The kernel names the user at the other
// end of the socket (SO_PEERCRED); group and mode of the socket play no part.
//
//	anyone  every local user. What monitoring needs: which servers answer,
//	        numbers of connections, state of the failover. The answers name
//	        servers, databases, users and application names, never a secret.
//	owner   root and the user that pgagroal runs as. Everything that changes
//	        something, and the answers that quote files which others may not
//	        read: the configuration, and the history with the output of scripts.
type permit int

const (
	anyone permit = iota
	owner
)

// allows decides for a user id; self is the one that pgagroal runs as.
func (p permit) allows(uid, self uint32) bool {
	return p == anyone || privileged(uid, self)
}

// privileged says that uid is root or the user that pgagroal runs as.
func privileged(uid, self uint32) bool { return uid == 0 || uid == self }
