package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// Supervisor carries out the commands. Its methods are called from several goroutines,
// and return when ctx ends. An error makes the command fail; pgagroal-cli prints its text
// unchanged.
type Supervisor interface {
	// Ping returns which servers can be reached.
	Ping(ctx context.Context) (control.PingResponse, error)
	// Status returns the state of the pooler, its servers and its failover.
	Status(ctx context.Context) (control.StatusResponse, error)
	// StatusDetails is Status with limits, databases and connections.
	StatusDetails(ctx context.Context) (control.StatusDetailsResponse, error)
	// Shutdown starts or cancels a shutdown and doesn't wait for its end. A nil timeout
	// is flush_timeout, 0 is unlimited; only a graceful shutdown has a timeout and a response.
	Shutdown(ctx context.Context, mode ShutdownMode, timeout *time.Duration) (control.ShutdownResponse, error)
	// SwitchDatabase disables or enables a database for new clients. The name may be an
	// alias; all and * stand for all databases.
	SwitchDatabase(ctx context.Context, database string, disable bool) (control.DatabasesResponse, error)
	// Flush closes connections to the servers, at once or when their clients don't need them any
	// more, and doesn't wait for these.
	Flush(ctx context.Context, order FlushOrder) (control.FlushResponse, error)
	// ClearFigures sets the counters of the metrics back to zero.
	ClearFigures(ctx context.Context) error
	// Pause holds clients, waits for their running work, and returns when they have no connection to
	// a server any more. If that takes too long, clients go on, and the error says what runs.
	Pause(ctx context.Context, order PauseOrder) (control.PauseResponse, error)
	// Resume lets paused clients go on.
	Resume(ctx context.Context, order PauseOrder) (control.PauseResponse, error)
	// Clients, Servers and Pools return what there is now, without asking a server.
	Clients(ctx context.Context) (control.ClientsResponse, error)
	Servers(ctx context.Context) (control.ServersResponse, error)
	Pools(ctx context.Context) (control.PoolsResponse, error)
	// Kick disconnects the client with this id.
	Kick(ctx context.Context, client uint64) error
	// Recycle replaces a worker by a fresh process, which goes on with its clients, or all workers one
	// after the other. It returns when the new processes have all clients that can be moved.
	Recycle(ctx context.Context, which string) (control.RecycleResponse, error)
	// Events returns what has happened lately, as the log has it. With Follow it waits for an event
	// if there is none yet, at most for control.FollowWait.
	Events(ctx context.Context, order EventsOrder) (control.EventsResponse, error)
	// Upgrade puts the installed program in the place of the running one. It returns once that
	// program has been tried, right before it is executed.
	Upgrade(ctx context.Context) (control.UpgradeResponse, error)
	// SwitchTo makes the server the primary: by a planned switchover, or by only
	// recording one that was made by hand. A nil timeout is the default wait for
	// running transactions. It returns when the outcome is known. It returns
	// ErrUnknownServer if no server has that name.
	SwitchTo(ctx context.Context, server string, force bool, timeout *time.Duration) (control.FailoverAnswer, error)
	// ClearServer makes a Failed server usable again once it has been probed.
	ClearServer(ctx context.Context, server string, force bool) error
	// Failover pauses, resumes, resets or triggers the failover. It returns
	// ErrUnknownServer if the order names a server that doesn't exist.
	Failover(ctx context.Context, order FailoverOrder) (control.FailoverAnswer, error)
	// FailoverRehearse returns what a failover would do now, and changes nothing.
	FailoverRehearse(ctx context.Context) (control.RehearsalResponse, error)
	// ConfList returns the paths of the files in use.
	ConfList(ctx context.Context) (control.ConfListResponse, error)
	// ConfGet returns the value of a key or section, and the whole configuration for
	// the empty key; see ConfValue. It returns ErrUnknownKey if there is no such key. sources
	// says where the values were set, see ConfSources.
	ConfGet(ctx context.Context, key string) (value any, sources map[string]string, err error)
	// ConfSet changes the value of a key until the next reload, or for good if it persists.
	ConfSet(ctx context.Context, key, value string, persist bool) (control.SetResponse, error)
	// ConfReset gives a key, or all of them for all, the value of the files again.
	ConfReset(ctx context.Context, key string) (control.ReloadResponse, error)
	// ConfAlias returns the lines of the databases file.
	ConfAlias(ctx context.Context) (control.AliasResponse, error)
	// ConfReload reads the files again, and returns when they are in effect.
	ConfReload(ctx context.Context) (control.ReloadResponse, error)
	// FailoverStatus returns everything that is known about the failover.
	FailoverStatus(ctx context.Context) (control.FailoverStatusResponse, error)
	// FailoverHistory returns the last n entries, oldest first; 0 is all of them.
	// Each is one JSON object.
	FailoverHistory(ctx context.Context, n int) ([]json.RawMessage, error)
}

// AllKeys stands for every key in ConfReset.
const AllKeys = "all"

// Errors that a Supervisor may wrap.
var (
	// ErrUnknownServer says that no server has that name.
	ErrUnknownServer = errors.New("no such server")
	// ErrUnknownKey says that the configuration has no such key.
	ErrUnknownKey = errors.New("no such key")
)

// FailoverWord is the second word of `pgagroal-cli failover`.
type FailoverWord string

// The words that change something.
const (
	OrderPause   FailoverWord = "pause"
	OrderResume  FailoverWord = "resume"
	OrderReset   FailoverWord = "reset"
	OrderTrigger FailoverWord = "trigger"
)

// FailoverOrder is an operator's order about the failover. Server and Force belong to
// OrderTrigger; with an empty Server pgagroal chooses.
type FailoverOrder struct {
	Word   FailoverWord
	Server string
	Force  bool
}

// FlushMode says which connections a flush is about: an index of control.FlushModes.
type FlushMode int

// The modes.
const (
	// FlushIdle closes connections that no client has.
	FlushIdle FlushMode = iota
	// FlushGracefully closes all others, too, when their clients don't need them any more.
	FlushGracefully
	// FlushAll disconnects the clients of these.
	FlushAll
)

// String returns the word of the command line.
func (m FlushMode) String() string {
	if m < 0 || int(m) >= len(control.FlushModes) {
		return "unknown"
	}
	return control.FlushModes[m]
}

// FlushOrder is an operator's order to flush. Database may be an alias; all and * stand for all
// databases. After Timeout the clients of a graceful flush are disconnected: nil is flush_timeout, 0
// is unlimited.
type FlushOrder struct {
	Mode     FlushMode
	Database string
	Timeout  *time.Duration
}

// EventsOrder says which events an operator wants: those after number After, or, if that is nil, the
// last Count ones, 0 for all.
type EventsOrder struct {
	After  *uint64
	Count  int
	Follow bool
}

// PauseOrder says whose clients an operator pauses or resumes: those of Server if it is named, else
// those of Database, which may be an alias, or all or *. Timeout is how long a pause waits for running
// work, nil for the default.
type PauseOrder struct {
	Server   string
	Database string
	Timeout  *time.Duration
}

// ShutdownMode is the kind of shutdown.
type ShutdownMode int

// The kinds of shutdown.
const (
	// ShutdownGraceful refuses new clients and stops when the last client has left.
	ShutdownGraceful ShutdownMode = iota
	// ShutdownImmediate stops now.
	ShutdownImmediate
	// ShutdownCancel takes a graceful shutdown back.
	ShutdownCancel
)

// String returns the word of the command line.
func (m ShutdownMode) String() string {
	switch m {
	case ShutdownGraceful:
		return "gracefully"
	case ShutdownImmediate:
		return "immediate"
	case ShutdownCancel:
		return "cancel"
	}
	return "unknown"
}
