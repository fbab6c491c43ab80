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

// Names of the commands, as they are sent and as Header.Command shows them.
const (
	Ping               = "ping"
	Status             = "status"
	StatusDetails      = "status-details"
	ConfList           = "conf-ls"
	ConfGet            = "conf-get"
	ShutdownGracefully = "shutdown-gracefully"
	ShutdownNow        = "shutdown"
	CancelShutdown     = "cancel-shutdown"
	SwitchTo           = "switch-to"
	ClearServer        = "clear-server"
	FailoverStatus     = "failover-status"
	FailoverHistory    = "failover-history"
	FailoverPause      = "failover-pause"
	FailoverResume     = "failover-resume"
	FailoverReset      = "failover-reset"
	FailoverTrigger    = "failover-trigger"
	FailoverRehearse   = "failover-rehearse"
)

// Arguments of commands. ClientVersion and Output come with each of them.
const (
	ArgClientVersion = "client_version"
	ArgOutput        = "output"
	ArgServer        = "server"
	ArgForce         = "force"   // true, or absent
	ArgTimeout       = "timeout" // whole seconds
	ArgCount         = "count"
	ArgKey           = "key"
)

// Time limits of commands: those that look, those that change something and may
// have to wait for workers, and the one that waits for a script.
const (
	lookLimit   = 10 * time.Second
	changeLimit = 30 * time.Second
	switchLimit = 15 * time.Minute
)

// AnswerGrace is how much longer than pgagroal itself pgagroal-cli waits, so that
// only a stopped process makes it give up.
const AnswerGrace = 30 * time.Second

// Command is what both sides know of one command.
type Command struct {
	Name string
	// Number is that of the raw format, pgagroal's where it has the command.
	Number int
	// Failure is Outcome.Error when the command fails.
	Failure int
	// Limit bounds the command; Waits says that ArgTimeout is added to it.
	Limit time.Duration
	Waits bool
	// Args may occur beside those of every command.
	Args []string
}

// Commands is everything that can be asked.
var Commands = []Command{
	{Name: Ping, Number: 11, Failure: CodePing, Limit: lookLimit},
	{Name: Status, Number: 16, Failure: CodeStatus, Limit: lookLimit},
	{Name: StatusDetails, Number: 5, Failure: CodeStatusDetails, Limit: lookLimit},
	{Name: FailoverStatus, Number: 100, Failure: CodeFailoverStatus, Limit: lookLimit},
	{Name: FailoverHistory, Number: 101, Failure: CodeFailoverHistory, Limit: lookLimit, Args: []string{ArgCount}},
	{Name: ConfList, Number: 2, Failure: CodeConfList, Limit: lookLimit},
	{Name: ConfGet, Number: 3, Failure: CodeConfGet, Limit: lookLimit, Args: []string{ArgKey}},
	{Name: ShutdownGracefully, Number: 10, Failure: CodeShutdown, Limit: changeLimit, Args: []string{ArgTimeout}},
	{Name: ShutdownNow, Number: 15, Failure: CodeShutdown, Limit: changeLimit},
	{Name: CancelShutdown, Number: 1, Failure: CodeShutdown, Limit: changeLimit},
	{Name: SwitchTo, Number: 17, Failure: CodeSwitchTo, Limit: switchLimit, Waits: true, Args: []string{ArgServer, ArgForce, ArgTimeout}},
	{Name: FailoverPause, Number: 102, Failure: CodeFailoverPause, Limit: changeLimit},
	{Name: FailoverResume, Number: 103, Failure: CodeFailoverResume, Limit: changeLimit},
	{Name: FailoverReset, Number: 104, Failure: CodeFailoverReset, Limit: changeLimit},
	{Name: FailoverTrigger, Number: 105, Failure: CodeFailoverTrigger, Limit: changeLimit, Args: []string{ArgServer, ArgForce}},
	{Name: FailoverRehearse, Number: 106, Failure: CodeRehearse, Limit: changeLimit},
	{Name: ClearServer, Number: 14, Failure: CodeClearServer, Limit: changeLimit, Args: []string{ArgServer, ArgForce}},
}

// Find returns the command of a name, nil for none.
func Find(name string) *Command {
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &Commands[i]
}

// Takes says whether an argument may come with the command.
func (c *Command) Takes(arg string) bool {
	return arg == ArgClientVersion || arg == ArgOutput || slices.Contains(c.Args, arg)
}

// Allows is how long the command may take; wait is its ArgTimeout, 0 without.
func (c *Command) Allows(wait time.Duration) time.Duration {
	if !c.Waits {
		return c.Limit
	}
	return c.Limit + wait
}
