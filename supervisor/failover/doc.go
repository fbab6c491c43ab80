// Package failover decides which server is the primary, when it is dead, which standby replaces it and
// when clients may be attached: a pure state machine without clock, socket, goroutine or logger.
//
// The supervisor starts it with New, feeds it one Event at a time through Step and executes the returned
// actions strictly in order; Deadline says when it wants a Tick. It owns the state of every server, the
// epoch, the phase and the durable Record. It ends with its owner; what has to outlive it is in the Record.
//
// The Machine's state is in types that only their own methods write: stage (the phase), door (whether clients are let
// in), known (the recorded primary), fence with its purpose, runs, notify, runner, saving. become alone writes a server's
// state, enter alone changes the phase and asserts what the phase works with, holdOn asserts what a hold is about.
//
// The rules are those of doc/FAILOVER.md; the file names follow its chapters: start, confirm, choose, run,
// verify, settle, command. Tests are transcripts in testdata.
package failover
