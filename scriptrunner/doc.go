// Package scriptrunner is the only process that executes something that is not
// ours: the hooks of failover.
//
// Who starts me: the supervisor, as a child with its link on descriptor 3; or
// systemd, as pgagroal-scriptrunner, when the first supervisor connects to its
// socket. Only the second form may be another user than pgagroal.
//
// What I own: the one run that may be in progress, what it wrote, and the record
// of the runs that I and those before me have executed. No passwords, no keys, no sockets of clients or
// servers.
//
// Who talks to me: one supervisor at a time, which proves to a service by the
// secret of its start that it is the supervisor. It names a hook, never a path: the
// paths come from the configuration, which I read myself at the start and when
// told to, and I report a digest of what I read.
//
// What must never happen: that a run is executed twice, or after it was given up. I
// keep the ids of runs, and look at the expiry of each right before the exec, after
// I have said that I am about to; whoever has not heard that knows that nothing was
// executed.
//
// How I end: spawned, when the link is gone; as a service, when I am told to
// stop. Either way a run in progress ends first, within its own time-out.
package scriptrunner
