package ipc

import "fmt"

// RunnerConfigure tells the runner to read its hooks from the configuration.
// ConfigPath counts only for a runner that the supervisor spawned; a runner
// that is a service of its own has its path from its own command line.
type RunnerConfigure struct {
	Gen        uint64 `msgpack:"gen"`
	ConfigPath string `msgpack:"config_path"`
	// Secret proves to a runner that is a service of its own that the peer is the
	// supervisor: proc.Prove. A runner that was spawned needs no proof.
	Secret Secret `msgpack:"secret"`
}

// Format keeps Secret from being printed.
func (RunnerConfigure) Format(s fmt.State, _ rune) { hide(s, "RunnerConfigure") }

// RunnerReady says what the runner has read. Digest is that of the keys that
// matter to it, which the supervisor compares with its own.
type RunnerReady struct {
	Gen    uint64      `msgpack:"gen"`
	Digest string      `msgpack:"digest"`
	Hooks  []HookCheck `msgpack:"hooks"`
	// Error says that the configuration can't be read.
	Error string `msgpack:"error"`
	// Running is the id of a run that is still in progress, empty for none. It
	// may have been started by a runner before this one.
	Running string `msgpack:"running"`
	// Results are the last runs of which this runner, or one before it, has seen
	// the end, newest last.
	Results []RunEnded `msgpack:"results"`
}

// HookCheck is one hook and what keeps it from running, empty for nothing.
type HookCheck struct {
	Hook    string `msgpack:"hook"`
	Problem string `msgpack:"problem"`
}

// Run asks for one execution of one hook. It names the hook, never a path.
type Run struct {
	RunID string   `msgpack:"run_id"`
	Hook  string   `msgpack:"hook"`
	Args  []string `msgpack:"args"`
	// Env becomes PGAGROAL_<NAME> in the environment of the script.
	Env map[string]string `msgpack:"env"`
	// Expires is when the supervisor gives the run up, in milliseconds since boot
	// (proc.SinceBoot). The runner never executes the script later than that.
	Expires int64 `msgpack:"expires"`
}

// RunStarting says that all is prepared and that the script is about to be
// executed. A runner that has not sent it has not executed anything.
type RunStarting struct {
	RunID string `msgpack:"run_id"`
}

// RunStarted says that the script runs, as leader of process group PGID.
type RunStarted struct {
	RunID string `msgpack:"run_id"`
	PGID  int    `msgpack:"pgid"`
}

// RunOutput is one line that the script wrote, without its line end.
type RunOutput struct {
	RunID string `msgpack:"run_id"`
	Line  string `msgpack:"line"`
	// Cut says that the line was longer than the runner passes on, or that
	// lines were dropped after it.
	Cut bool `msgpack:"cut"`
}

// RunEnded is the outcome of a run: that of the script's own process. After a
// time-out every descendant of the script is gone too. After a regular end what
// it left running is left alone, since a hook may have started a server.
type RunEnded struct {
	RunID string `msgpack:"run_id"`
	Hook  string `msgpack:"hook"`
	// Exit is the exit code; -1 when the script was ended by Signal or never ran.
	Exit     int    `msgpack:"exit"`
	Signal   string `msgpack:"signal"`
	TimedOut bool   `msgpack:"timed_out"`
	// Refused says why the script was not started at all, empty when it was.
	Refused    string `msgpack:"refused"`
	DurationMS int64  `msgpack:"duration_ms"`
	// Unknown says that nothing of the run is left, but that its runner died
	// before it: nobody knows how the script has ended. Exit is -1 then.
	Unknown bool `msgpack:"unknown"`
	// Left are processes of the script that could not be ended, and may go on.
	Left []int `msgpack:"left"`
}

// StopRun ends a run before its time, as its time-out would: the outcome is
// that of a script that got SIGTERM, without TimedOut. One that has ended, or
// is being ended, isn't changed by it.
type StopRun struct {
	RunID string `msgpack:"run_id"`
}

// CheckHooks asks whether the scripts could run now. The runner looks at the
// files anew, by the configuration that it has. It is asked again and again, so a
// runner that doesn't answer is known before it is needed.
type CheckHooks struct {
	ID uint64 `msgpack:"id"`
}

// HooksChecked answers.
type HooksChecked struct {
	ID    uint64      `msgpack:"id"`
	Hooks []HookCheck `msgpack:"hooks"`
	// Clock is the time since boot as the runner sees it, in milliseconds, by which
	// it will judge Run.Expires.
	Clock int64 `msgpack:"clock"`
}

func (*RunnerConfigure) Number() Number { return 80 }
func (*RunnerReady) Number() Number     { return 81 }
func (*Run) Number() Number             { return 82 }
func (*RunStarted) Number() Number      { return 83 }
func (*RunOutput) Number() Number       { return 84 }
func (*RunEnded) Number() Number        { return 85 }
func (*StopRun) Number() Number         { return 86 }
func (*CheckHooks) Number() Number      { return 87 }
func (*HooksChecked) Number() Number    { return 88 }
func (*RunStarting) Number() Number     { return 89 }
