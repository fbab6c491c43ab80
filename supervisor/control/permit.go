package control

// permit says who may send a command. The kernel names the process at the other
// end of the socket and its user (SO_PEERCRED, SO_PEERPIDFD); group and mode of
// the socket play no part.
//
//	anyone  every local user. What monitoring needs: which servers answer,
//	        numbers of connections, state of the failover. The answers name
//	        servers, databases, users and application names, never a secret.
//	owner   root and the user that pgagroal runs as. Everything that changes
//	        something, and the answers that quote files which others may not
//	        read: the configuration, and the history with the output of scripts.
//
// A script of pgagroal's has the user of the owner, or root by sudo, and is none
// for all that: it acts on a decision and makes none. A child of pgagroal has no
// business here at all: one that asks was taken over.
type permit int

const (
	anyone permit = iota
	owner
)

// Kin says what a process is to this pgagroal.
type Kin uint8

// The kinds.
const (
	// Stranger is a process that pgagroal hasn't started, such as an operator's.
	Stranger Kin = iota
	// Script is a script that the runner executes, or what that has started.
	Script
	// Child is a worker, or another process that decides nothing.
	Child
)

// String returns the word for the log.
func (k Kin) String() string {
	return [...]string{Stranger: "stranger", Script: "script", Child: "child"}[k]
}

// peer is the process at the other end.
type peer struct {
	uid uint32
	kin Kin
}

// allows decides for a peer; self is the user that pgagroal runs as.
func (p permit) allows(who peer, self uint32) bool {
	switch who.kin {
	case Stranger:
		return p == anyone || privileged(who.uid, self)
	case Script:
		return p == anyone
	}
	return false
}

// refusal says why a peer may not send a command.
func (who peer) refusal() string {
	switch who.kin {
	case Script:
		return "permission denied: a script of pgagroal may only ask for ping, status and failover status"
	case Child:
		return "permission denied: children of pgagroal have nothing to ask"
	}
	return "permission denied: only root and the user of pgagroal may do that"
}

// privileged says that uid is root or the user that pgagroal runs as.
func privileged(uid, self uint32) bool { return uid == 0 || uid == self }
