package failover

import (
	"iter"
	"slices"
	"time"
)

// Settle says whether the machine itself applies rule 8 of doc/FAILOVER.md after a failed or unknown run.
type Settle uint8

// Values of failover_settle.
const (
	SettleAuto Settle = iota
	SettleManual
)

// Verify says what must be seen before the new primary opens to clients after exit 0.
type Verify uint8

// Values of failover_verify.
const (
	VerifyWait Verify = iota
	VerifyStrict
	VerifyOff
)

// Validation says how servers of another system identifier are treated.
type Validation uint8

// Values of startup_validation.
const (
	ValidationTry Validation = iota
	ValidationOff
	ValidationOn
)

// Failback says what happens to an old primary that is back as a standby.
type Failback uint8

// Values of failback.
const (
	FailbackManual  Failback = iota // Failed until `clear server`
	FailbackStandby                 // Replica once it has been a standby for failback_quarantine
)

// ServerConfig is one server section.
type ServerConfig struct {
	Name        string // section name, unique; empty for a slot without a server
	Host        string // verbatim, first or third argument of a hook
	Port        string // verbatim, second or fourth argument of a hook
	PrimaryHint bool   // `primary = on`
	Candidate   bool   // failover_candidate
	Priority    int    // failover_priority, higher is preferred
}

// Config is what the machine needs of pgagroal.conf; a zero duration or count takes the default named here.
type Config struct {
	Enabled  bool           // failover = on; with off the machine keeps states and routing, but never fences and never runs a script
	Follow   bool           // failover_mode = follow: somebody else replaces a dead primary; the machine confirms the death and holds clients
	Servers  []ServerConfig // by slot: a server keeps its slot, other ones get a new one or one that is free
	Order    []int          // slots in the order of the configuration, nil if that is their own order
	Settle   Settle
	Verify   Verify
	Validate Validation

	NotifyConfigured  bool          // failover_notify_script is set
	FenceScript       bool          // failover_fence_script is set: nothing is promoted before it has ended with exit 0
	HealthCheck       bool          // health_check = on: regular probes in steady state
	HealthCheckPeriod time.Duration // health_check_period, 30s
	ProbeUser         string        // health_check_user: when it is named, probes log in as nobody else
	CredentialHint    string        // what gives probes a user or a password, for the log; may be empty

	StartTimeout  time.Duration // failover_start_timeout, 5s
	ProbeCount    int           // failover_probe_count, 3
	ProbeInterval time.Duration // failover_probe_interval, 300ms, end to start
	ProbeTimeout  time.Duration // failover_probe_timeout, 2s
	RestartGrace  time.Duration // failover_restart_grace, 10s
	StartupGrace  time.Duration // failover_startup_grace, 60s
	SilenceTime   time.Duration // failover_silence_time, 15s
	Veto          bool          // failover_veto_streaming
	VetoMax       time.Duration // failover_veto_max, 60s
	MinStandbys   int           // failover_min_standbys, 0 is the default that pgagroal.conf(5) documents
	MaxLag        uint64        // failover_max_lag in bytes, 0 is unset
	MaxRuns       int           // failover_max, failovers with scripts in each Window; 0 is unlimited
	Window        time.Duration // failover_window, 1h
	ScriptTimeout time.Duration // failover_script_timeout, 120s
	VerifyTimeout time.Duration // failover_verify_timeout, 10s
	NotifyTimeout time.Duration // failover_notify_timeout, 600s
	NotifyRetries int           // failover_notify_retries
	Failback      Failback
	Quarantine    time.Duration // failback_quarantine, 60s
	RunnerWait    time.Duration // how long a due run waits for the runner before the alarm, 10s
	WatchInterval time.Duration // probes of Failed, detached and unseen servers while open, 5s
	HeldInterval  time.Duration // probes while no primary is open, 1s
}

// State is a server's state as users see it, in the words of C pgagroal.
//
//	Not init -----> Not init (primary) --login--> Primary --confirmed--> Failover --run, no candidate--> Failed
//	    |  ^                                      ^  |                     |                               |
//	    |  |                                      |  +---- demoted,        +-- back before the run:        |
//	    v  |                                      |        switch-to           Primary                     |
//	Replica -----------chosen, adopted------------+                                                        |
//	    ^  +-----------failed run, split brain, foreign (validation on)----------------------------------> |
//	    +--------------------------------------- Not init <---------------- clear server ------------------+
type State uint8

// States of a server.
const (
	NotInit State = iota
	NotInitPrimary
	Primary
	Replica
	Failover
	Failed
)

var stateNames = [...]string{"Not init", "Not init (primary)", "Primary", "Replica", "Failover", "Failed"}

// String is the word printed by status, logs and metrics help.
func (s State) String() string { return name(stateNames[:], int(s)) }

// Qualifier narrows a State where it helps.
type Qualifier uint8

// Qualifiers of a state.
const (
	Plain Qualifier = iota
	NotWritable
	Detached
	SplitBrain
	Vetoed
)

var qualifierNames = [...]string{"", "not writable", "detached", "split brain", "vetoed"}

// String is the text inside the parentheses, empty for Plain.
func (q Qualifier) String() string { return name(qualifierNames[:], int(q)) }

// Display is the state as users see it: "Primary (not writable)".
func Display(s State, q Qualifier) string {
	if q == Plain {
		return s.String()
	}
	return s.String() + " (" + q.String() + ")"
}

// Phase is what the machine as a whole is doing. A notify run can be in progress in any phase.
//
//	Starting --one writable--> Open --hint, failed probe--> Suspect --confirmed--> Fencing --Fenced--> Choosing
//	   |                        ^ ^                            |                      |                  |   |
//	   |                        | +------- it answers ---------+----------------------+------------------+   |
//	   +--none, equal--> Held --+ <------------------- no candidate, demoted, failed or lost run -----+      |
//	                      settle                                                                      |  StartRun
//	                            Open <--out of recovery-- Verifying <--exit 0-- Running <-------------+------+
//	                            Open --switch-to--> Switching --idle--> Fencing --Fenced--> Switching --replayed--+
type Phase uint8

// Phases of the machine.
const (
	PhaseNew Phase = iota // before Started
	PhaseStarting
	PhaseOpen
	PhaseSuspect
	PhaseSwitching
	PhaseFencing
	PhaseChoosing
	PhaseRunning
	PhaseVerifying
	PhaseHeld
)

var phaseNames = [...]string{"new", "starting", "open", "suspect", "switching", "fencing", "choosing", "running", "verifying", "held"}

// Phases returns the words of all phases that a status shows.
func Phases() []string { return append(slices.Clone(phaseNames[PhaseStarting:]), HookNotify) }

// String is the word in status, log, record and transcripts.
func (p Phase) String() string { return name(phaseNames[:], int(p)) }

func name(table []string, i int) string {
	if i >= 0 && i < len(table) {
		return table[i]
	}
	return "unknown"
}

// Snapshot is what workers need to know: the states of all servers under one generation number.
type Snapshot struct {
	Gen     uint64       // grows with every snapshot of this process
	Epoch   uint64       // each backend belongs to an epoch; it changes with every change of primary
	Open    bool         // clients may use backends of Primary; otherwise logins wait
	Primary int          // slot, -1 when there is none
	Servers []ServerView // by slot, as in Config
}

// ServerView is one server in a Snapshot.
type ServerView struct {
	Name      string
	State     State
	Qualifier Qualifier
}

// Status is everything that an operator may ask at 3 a.m. Durations end at the time that was given to Machine.Status.
type Status struct {
	Enabled  bool
	Paused   bool   // by command: no fence and no run
	Phase    string // the phase's word, or "notify" while open with a notify run under way
	Since    time.Duration
	Epoch    uint64
	Open     bool
	Held     bool          // logins are held
	HeldFor  time.Duration // how long they have been held, 0 if they aren't
	Reason   string        // why the machine is in this phase, for operators; it may name scripts, hosts and processes
	Public   string        // the same for clients, which learn only states; "" while a primary is open
	Command  string        // the command that ends a hold, empty when none is needed
	Primary  int           // slot, -1 when there is none
	Timeline uint32        // of the recorded primary, 0 unknown
	LSN      uint64        // last LSN seen on the primary, 0 unknown
	LSNAge   time.Duration // age of LSN, meaningful with LSN
	Run      *RunStatus    // the run in progress, or a lost run whose processes may not have ended; nil for none
	Stopping bool
	Alarms   []Alarm        // in the order they were raised
	Servers  []ServerStatus // by slot, with empty names where there is no server
	Order    []int          // slots in the order of the configuration, nil if that is their own order
}

// Each returns the servers in the order of the configuration, each with its slot.
func (s *Status) Each() iter.Seq2[int, ServerStatus] {
	return func(yield func(int, ServerStatus) bool) {
		for n := range s.Servers {
			i := n
			if s.Order != nil {
				if n == len(s.Order) {
					return
				}
				i = s.Order[n]
			}
			if s.Servers[i].Name != "" && !yield(i, s.Servers[i]) {
				return
			}
		}
	}
}

// Busy reports whether a hook is running, for which a shutdown waits.
func (s Status) Busy() bool { return s.Run != nil && !s.Run.Lost }

// Line is the status line for sd_notify.
func (s Status) Line() string {
	line := s.Phase
	if s.Primary >= 0 {
		line += ", primary " + s.Servers[s.Primary].Name
	} else {
		line += ", no primary"
	}
	if s.Held {
		line += ", logins held"
	}
	if s.Phase != PhaseOpen.String() {
		line += ": " + s.Reason
	}
	if n := len(s.Alarms); n > 0 && s.Alarms[n-1].Name != alarmHeld {
		line += ", alarm: " + s.Alarms[n-1].Text
	}
	return line
}

// ServerStatus is one server in a Status.
type ServerStatus struct {
	Name      string
	Host      string
	Port      string
	State     State
	Qualifier Qualifier
	Reason    string        // why it is in this state
	Command   string        // the command that ends it, empty when none is needed
	Seen      string        // last probe in words: "primary", "standby", "refused", ...
	SeenAge   time.Duration // age of Seen, meaningful with Seen
	SystemID  uint64        // 0 unknown
	Timeline  uint32        // 0 unknown; a lower bound on a standby
	LSN       uint64        // written, or greatest of received and replayed
	Failures  int           // dead results in a row
	Standby   *StandbyView  // its replication as its last probe has seen it, nil if unknown
	Foreign   bool          // system identifier differs from the primary's
}

// StandbyView is what a standby shows of its WAL receiver; all fields are empty if it has none.
type StandbyView struct {
	Streaming  bool
	Status     string
	SlotName   string
	SenderHost string
	SenderPort string
}

// RunStatus describes the current run.
type RunStatus struct {
	ID   string
	Hook string
	For  time.Duration // since StartRun
	Lost bool          // the link to the runner broke: outcome unknown, waiting for RunGroupEmpty
	Old  string        // server names
	New  string
}

// Alarm is a condition that an operator should look at.
type Alarm struct {
	Name string // a word that never changes, for metrics: "runner", "save", "split_brain", ...
	Text string
	For  time.Duration
}
