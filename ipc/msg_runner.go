package ipc

import "fmt"

// RunnerConfigure tells the runner to read its hooks from the configuration. ConfigPath is only for
// a runner that is the supervisor's child; a service has the path from its own command line. The
// first one of a link takes effect at once, a later one waits for RunnerCommit.
type RunnerConfigure struct {
	Gen        uint64 `msgpack:"gen"`
	ConfigPath string `msgpack:"config_path"`
	// Secret proves to a runner that is a service that the peer is the supervisor: see proc.Prove.
	// A child needs no proof.
	Secret Secret `msgpack:"secret"`
}

// Format keeps Secret from being printed.
func (RunnerConfigure) Format(s fmt.State, _ rune) { hide(s, "RunnerConfigure") }

// RunnerReady says what the runner has read. Digest is a digest of the keys that the runner uses,
// which the supervisor compares with its own.
type RunnerReady struct {
	Gen    uint64      `msgpack:"gen"`
	Digest string      `msgpack:"digest"`
	Hooks  []HookCheck `msgpack:"hooks"`
	// Error says that the configuration can't be read.
	Error string `msgpack:"error"`
	// Running is the id of a run that is still in progress, empty for none. An earlier runner may
	// have started it.
	Running string `msgpack:"running"`
	// Results are the last runs whose end this runner, or an earlier one, has seen, newest last.
	Results []RunEnded `msgpack:"results"`
}

// RunnerCommit puts the hooks that were read for generation Gen in effect. Hooks that were read for
// another generation are dropped.
type RunnerCommit struct {
	Gen uint64 `msgpack:"gen"`
}

// HookCheck is one hook and what prevents it from running, empty for nothing.
type HookCheck struct {
	Hook    string `msgpack:"hook"`
	Problem string `msgpack:"problem"`
	// KnowsCheck says that the script declares that it knows PGAGROAL_CHECK, so CheckRun may name it.
	KnowsCheck bool `msgpack:"knows_check"`
}

// Run asks for one execution of one hook. It names the hook, never a path.
type Run struct {
	RunID string   `msgpack:"run_id"`
	Hook  string   `msgpack:"hook"`
	Args  []string `msgpack:"args"`
	// Env becomes PGAGROAL_<NAME> in the environment of the script.
	Env map[string]string `msgpack:"env"`
	// Expires is when the supervisor gives the run up, in milliseconds since boot (proc.SinceBoot).
	// The runner never executes the script after that.
	Expires int64 `msgpack:"expires"`
}

// RunStarting says that the script is about to be executed. A runner that has not sent it has not
// executed anything.
type RunStarting struct {
	RunID string `msgpack:"run_id"`
}

// RunStarted says that the script is running, as leader of process group PGID.
type RunStarted struct {
	RunID string `msgpack:"run_id"`
	PGID  int    `msgpack:"pgid"`
}

// RunOutput is one line that the script wrote, without its line end.
type RunOutput struct {
	RunID string `msgpack:"run_id"`
	Line  string `msgpack:"line"`
	// Cut says that the line was too long and is cut, or that lines after it were dropped.
	Cut bool `msgpack:"cut"`
}

// RunEnded is the outcome of a run, which is that of the script's own process. After a time-out
// every descendant of the script is gone, too. After a regular end the processes that the script
// left running are left alone, since a hook may have started a server.
type RunEnded struct {
	RunID string `msgpack:"run_id"`
	Hook  string `msgpack:"hook"`
	// Exit is the exit code; -1 when the script was ended by Signal or never ran.
	Exit     int    `msgpack:"exit"`
	Signal   string `msgpack:"signal"`
	TimedOut bool   `msgpack:"timed_out"`
	// Refused says why the script was not started; empty if it was.
	Refused    string `msgpack:"refused"`
	DurationMS int64  `msgpack:"duration_ms"`
	// Unknown says that no process of the run is left, but that the run's runner died before the
	// end, so that nobody knows how the script ended. Exit is -1 then.
	Unknown bool `msgpack:"unknown"`
	// Left are processes of the script that could not be ended, and may go on.
	Left []int `msgpack:"left"`
}

// CheckRun asks for one execution of a hook with PGAGROAL_CHECK=1, with the fields of Run: the script looks whether it
// could do its work, and changes nothing. It is no Run, so that a runner of an earlier release can't take it for one. The
// runner refuses it for a script that doesn't declare that it knows the variable, and ends it for a Run.
type CheckRun struct {
	RunID   string            `msgpack:"run_id"`
	Hook    string            `msgpack:"hook"`
	Args    []string          `msgpack:"args"`
	Env     map[string]string `msgpack:"env"`
	Expires int64             `msgpack:"expires"`
}

// StopRun ends a run before its time-out. The outcome is that of a script that got SIGTERM, without
// TimedOut. It has no effect on a run that has ended or is being ended.
type StopRun struct {
	RunID string `msgpack:"run_id"`
}

// CheckHooks asks whether the scripts could run now. The runner checks the files again, with the
// configuration that it has. The supervisor asks at intervals, so that it knows of a runner that
// doesn't answer before it needs it.
type CheckHooks struct {
	ID uint64 `msgpack:"id"`
}

// HooksChecked answers CheckHooks.
type HooksChecked struct {
	ID    uint64      `msgpack:"id"`
	Hooks []HookCheck `msgpack:"hooks"`
	// Clock is the time since boot as the runner sees it, in milliseconds. The runner compares
	// Run.Expires with this clock.
	Clock int64 `msgpack:"clock"`
	// Logged are the lines of level info, warn, error and fatal that the runner has logged.
	Logged []uint64 `msgpack:"logged"`
}

func (*RunnerConfigure) Number() Number { return 80 }
func (*RunnerReady) Number() Number     { return 81 }
func (*RunnerCommit) Number() Number    { return 93 }
func (*Run) Number() Number             { return 82 }
func (*RunStarted) Number() Number      { return 83 }
func (*RunOutput) Number() Number       { return 84 }
func (*RunEnded) Number() Number        { return 85 }
func (*StopRun) Number() Number         { return 86 }
func (*CheckHooks) Number() Number      { return 87 }
func (*HooksChecked) Number() Number    { return 88 }
func (*RunStarting) Number() Number     { return 89 }
func (*CheckRun) Number() Number        { return 92 }
