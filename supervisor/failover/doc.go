// Package failover decides which server is the primary, when it is dead, which standby replaces it and
// when clients may be attached: a pure state machine without clock, socket, goroutine or logger.
//
// The supervisor makes a Machine with New, feeds it one Event at a time through Step and executes the returned actions
// strictly in order; Deadline says when it wants a Tick. The machine owns the state of every server, the epoch, the
// phase and the durable Record. It has no end of its own; what must survive the process is in the Record.
//
// Only their own methods write the types that make up the Machine's state: stage (the phase), door (whether clients are
// let in), known (the recorded primary), fence with its purpose, runs, notify, runner, saving. Only become writes a
// server's state. Only enter changes the phase; it asserts that what the phase works with is there. holdOn asserts the
// same for a hold.
//
// The rules are those of doc/FAILOVER.md; the file names follow its chapters: start, confirm, choose, run,
// verify, settle, command. Tests are transcripts in testdata.
package failover
