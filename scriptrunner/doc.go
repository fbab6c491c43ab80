// Package scriptrunner is the only process that executes programs that are not part of
// pgagroal: the hooks of failover.
//
// Who starts me: the supervisor, as a child with its link on descriptor 3; or
// systemd, as pgagroal-scriptrunner, when the first supervisor connects to its
// socket. Only the service may run as another user than pgagroal.
//
// What I own: the run in progress, its output, and the record of the runs that this
// runner and earlier ones have executed. No passwords, no keys, no sockets of clients
// or servers.
//
// Who talks to me: one supervisor at a time. To a service it proves that it is the
// supervisor by the secret of its start. It names a hook, never a path: the paths come
// from the configuration, which I read myself, at the start and each time that a
// supervisor connects. I report a digest of what I have read.
//
// What must never happen: that a run is executed twice, or after it was given up. I
// remember the ids of runs. Right before each exec I announce it, and then check that
// the run has not expired; so a supervisor that has not received the announcement knows
// that nothing was executed. Nor must a check of a script keep a run from being started: a
// run ends it.
//
// How I end: as a child, when the link is gone; as a service, when I am told to stop, or,
// if systemd holds the socket, when the link is gone: for the next supervisor systemd
// starts a new process, which is the version that is installed then. Either way a run in
// progress ends first, within its own time-out.
package scriptrunner
