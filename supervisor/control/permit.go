package control

// permit says who may send a command. The kernel names the process at the other end of
// the socket and its user (SO_PEERCRED, SO_PEERPIDFD). Group and mode of the socket
// play no part.
//
//	anyone  every local user. What monitoring needs: which servers answer,
//	        numbers of connections, state of the failover. The answers name
//	        servers, databases, users and application names, never a secret.
//	owner   root and the user that pgagroal runs as. Everything that changes
//	        something, and the answers that quote files which others may not
//	        read: the configuration, and the history with the output of scripts.
//
// A script of pgagroal runs as the owner, or as root with sudo, but doesn't have the
// owner's permit: it carries out a decision and makes none. A child of pgagroal has no
// reason to connect here, and gets nothing: a child that asks was taken over. An admin who
// has logged in at the management port may do what the owner may: see remote.go.
type permit int

const (
	anyone permit = iota
	owner
)

// Kin says how a process is related to this pgagroal.
type Kin uint8

// The kinds.
const (
	// Stranger is a process that pgagroal hasn't started, such as an operator's.
	Stranger Kin = iota
	// Script is a script that the runner executes, or a process that the script has
	// started.
	Script
	// Child is a worker, or another process that may decide nothing.
	Child
	// Admin is no process of this machine, but an admin who has logged in at the management port.
	Admin
)

// String returns the word for the log.
func (k Kin) String() string {
	return [...]string{Stranger: "stranger", Script: "script", Child: "child", Admin: "admin"}[k]
}

// peer is the process at the other end, or an Admin.
type peer struct {
	uid uint32
	kin Kin

	admin, client string // name and address of an Admin
}

// attrs says in the log who it is.
func (who peer) attrs() []any {
	if who.kin == Admin {
		return []any{"admin", cut(who.admin), "client", cut(who.client)}
	}
	return []any{"uid", who.uid}
}

// allows reports whether a peer may send the command. self is the user that pgagroal
// runs as.
func (p permit) allows(who peer, self uint32) bool {
	switch who.kin {
	case Stranger:
		return p == anyone || privileged(who.uid, self)
	case Script:
		return p == anyone
	case Admin:
		return true
	}
	return false
}

// refusal returns why a peer may not send a command.
func (who peer) refusal() string {
	switch who.kin {
	case Script:
		return "permission denied: a script of pgagroal may only ask for ping, status and failover status"
	case Child:
		return "permission denied: children of pgagroal have nothing to ask"
	}
	return "permission denied: only root and the user of pgagroal may do that"
}

// privileged reports whether uid is root or the user that pgagroal runs as.
func privileged(uid, self uint32) bool { return uid == 0 || uid == self }
