package control

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// SocketPath returns the path of the control socket.
func SocketPath(unixSocketDir string, port int) string {
	return filepath.Join(unixSocketDir, fmt.Sprintf(".s.pgagroal.%d", port))
}

// Names of the commands in requests and in Header.Command.
const (
	Ping               = "ping"
	Status             = "status"
	StatusDetails      = "status-details"
	ConfList           = "conf-ls"
	ConfGet            = "conf-get"
	ConfSet            = "conf-set"
	ConfReset          = "conf-reset"
	ConfAlias          = "conf-alias"
	ConfReload         = "reload"
	ShutdownGracefully = "shutdown-gracefully"
	ShutdownNow        = "shutdown"
	CancelShutdown     = "cancel-shutdown"
	EnableDatabase     = "enable-db"
	DisableDatabase    = "disable-db"
	SwitchTo           = "switch-to"
	Flush              = "flush"
	ClearPrometheus    = "clear"
	Pause              = "pause"
	Resume             = "resume"
	Clients            = "clients"
	Servers            = "servers"
	Pools              = "pools"
	Kick               = "kick"
	WorkerRecycle      = "worker-recycle"
	Events             = "events"
	ClearServer        = "clear-server"
	Upgrade            = "upgrade"
	FailoverStatus     = "failover-status"
	FailoverHistory    = "failover-history"
	FailoverPause      = "failover-pause"
	FailoverResume     = "failover-resume"
	FailoverReset      = "failover-reset"
	FailoverTrigger    = "failover-trigger"
	FailoverRehearse   = "failover-rehearse"
)

// Arguments of commands. Every command has ArgClientVersion and ArgOutput.
const (
	ArgClientVersion = "client_version"
	ArgOutput        = "output"
	ArgServer        = "server"
	ArgDatabase      = "database"
	ArgForce         = "force"   // true, or absent
	ArgTimeout       = "timeout" // whole seconds
	ArgCount         = "count"
	ArgID            = "id"     // of a client
	ArgAfter         = "after"  // number of an event
	ArgFollow        = "follow" // true, or absent
	ArgKey           = "key"
	ArgValue         = "value"
	ArgPersist       = "persist" // true, or absent
	ArgMode          = "mode"    // of Flush: one of FlushModes
	ArgWorker        = "worker"  // process id, or AllWorkers
)

// AllWorkers stands for all workers in ArgWorker.
const AllWorkers = "all"

// FlushModes are the words of ArgMode. The index of a word is its number in Request.Mode.
var FlushModes = []string{"idle", "gracefully", "all"}

// Time limits of commands.
const (
	lookLimit   = 10 * time.Second // for commands that change nothing
	changeLimit = 30 * time.Second // for commands that may wait for workers
	// rehearseLimit is for failover rehearse, which waits for the checks of three scripts.
	rehearseLimit = 90 * time.Second
	recycleLimit  = 5 * time.Minute  // for worker recycle, which waits until the last new worker has what can be moved
	eventsLimit   = 40 * time.Second // for events, which may wait for FollowWait
	pauseLimit    = time.Minute      // for pause, which waits for running work: 30s, or as long as ArgTimeout says
	upgradeLimit  = time.Minute      // for upgrade, which waits for a trial and for a calm moment
	switchLimit   = 15 * time.Minute // for switch-to, which waits for a script
)

// FollowWait is how long an answer to Events with ArgFollow waits for an event.
const FollowWait = 20 * time.Second

// AnswerGrace is how long pgagroal-cli waits for the answer after the command's time
// limit. It gives up only if pgagroal itself doesn't answer at its limit.
const AnswerGrace = 30 * time.Second

// Command is what daemon and CLI know about one command.
type Command struct {
	Name string
	// Number stands for the command in the raw format. A command of C pgagroal keeps its
	// number there.
	Number int
	// Failure is Outcome.Error when the command fails.
	Failure int
	// Limit is the time limit of the command. With Waits the value of ArgTimeout is added.
	Limit time.Duration
	Waits bool
	// Args are the allowed arguments, in addition to those of every command.
	Args []string
}

// Commands are all commands.
var Commands = []Command{
	{Name: Ping, Number: 11, Failure: CodePing, Limit: lookLimit},
	{Name: Status, Number: 16, Failure: CodeStatus, Limit: lookLimit},
	{Name: StatusDetails, Number: 5, Failure: CodeStatusDetails, Limit: lookLimit},
	{Name: FailoverStatus, Number: 100, Failure: CodeFailoverStatus, Limit: lookLimit},
	{Name: FailoverHistory, Number: 101, Failure: CodeFailoverHistory, Limit: lookLimit, Args: []string{ArgCount}},
	{Name: ConfList, Number: 2, Failure: CodeConfList, Limit: lookLimit},
	{Name: ConfGet, Number: 3, Failure: CodeConfGet, Limit: lookLimit, Args: []string{ArgKey}},
	{Name: ConfSet, Number: 4, Failure: CodeConfSet, Limit: changeLimit, Args: []string{ArgKey, ArgValue, ArgPersist}},
	{Name: ConfReset, Number: 130, Failure: CodeConfReset, Limit: changeLimit, Args: []string{ArgKey}},
	{Name: ConfAlias, Number: 18, Failure: CodeConfAlias, Limit: lookLimit},
	{Name: ConfReload, Number: 12, Failure: CodeConfReload, Limit: changeLimit},
	{Name: ShutdownGracefully, Number: 10, Failure: CodeShutdown, Limit: changeLimit, Args: []string{ArgTimeout}},
	{Name: ShutdownNow, Number: 15, Failure: CodeShutdown, Limit: changeLimit},
	{Name: CancelShutdown, Number: 1, Failure: CodeShutdown, Limit: changeLimit},
	{Name: EnableDatabase, Number: 7, Failure: CodeEnable, Limit: changeLimit, Args: []string{ArgDatabase}},
	{Name: DisableDatabase, Number: 6, Failure: CodeDisable, Limit: changeLimit, Args: []string{ArgDatabase}},
	{Name: Flush, Number: 8, Failure: CodeFlush, Limit: changeLimit, Args: []string{ArgDatabase, ArgMode, ArgTimeout}},
	{Name: ClearPrometheus, Number: 13, Failure: CodeMetrics, Limit: changeLimit},
	{Name: Pause, Number: 107, Failure: CodePause, Limit: pauseLimit, Waits: true, Args: []string{ArgDatabase, ArgServer, ArgTimeout}},
	{Name: Resume, Number: 108, Failure: CodeResume, Limit: changeLimit, Args: []string{ArgDatabase, ArgServer}},
	{Name: Clients, Number: 109, Failure: CodeClients, Limit: lookLimit},
	{Name: Servers, Number: 110, Failure: CodeServers, Limit: lookLimit},
	{Name: Pools, Number: 111, Failure: CodePools, Limit: lookLimit},
	{Name: Kick, Number: 112, Failure: CodeKick, Limit: changeLimit, Args: []string{ArgID}},
	{Name: WorkerRecycle, Number: 131, Failure: CodeRecycle, Limit: recycleLimit, Args: []string{ArgWorker}},
	{Name: Events, Number: 113, Failure: CodeEvents, Limit: eventsLimit, Args: []string{ArgCount, ArgAfter, ArgFollow}},
	{Name: Upgrade, Number: 120, Failure: CodeUpgrade, Limit: upgradeLimit},
	{Name: SwitchTo, Number: 17, Failure: CodeSwitchTo, Limit: switchLimit, Waits: true, Args: []string{ArgServer, ArgForce, ArgTimeout}},
	{Name: FailoverPause, Number: 102, Failure: CodeFailoverPause, Limit: changeLimit},
	{Name: FailoverResume, Number: 103, Failure: CodeFailoverResume, Limit: changeLimit},
	{Name: FailoverReset, Number: 104, Failure: CodeFailoverReset, Limit: changeLimit},
	{Name: FailoverTrigger, Number: 105, Failure: CodeFailoverTrigger, Limit: changeLimit, Args: []string{ArgServer, ArgForce}},
	{Name: FailoverRehearse, Number: 106, Failure: CodeRehearse, Limit: rehearseLimit},
	{Name: ClearServer, Number: 14, Failure: CodeClearServer, Limit: changeLimit, Args: []string{ArgServer, ArgForce}},
}

// Find returns the command with this name, or nil.
func Find(name string) *Command {
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &Commands[i]
}

// Takes reports whether the command allows an argument.
func (c *Command) Takes(arg string) bool {
	return arg == ArgClientVersion || arg == ArgOutput || slices.Contains(c.Args, arg)
}

// Allows returns how long the command may take. wait is the value of ArgTimeout, or 0.
func (c *Command) Allows(wait time.Duration) time.Duration {
	if !c.Waits {
		return c.Limit
	}
	return c.Limit + wait
}
