package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Numbers of failures, in Outcome.Error of the document. Those up to 1999 mean
// what they mean in pgagroal.
const (
	CodeBadRequest     = 1
	CodeUnknownCommand = 2
	CodeStatus         = 700
	CodeStatusDetails  = 800
	CodeConfGet        = 900
	CodeSwitchTo       = 1300

	CodePermission      = 2000
	CodePing            = 2001
	CodeShutdown        = 2002
	CodeClearServer     = 2003
	CodeConfList        = 2004
	CodeFailoverStatus  = 2005
	CodeFailoverHistory = 2006
	CodeVersion         = 2007
	CodeFailoverPause   = 2008
	CodeFailoverResume  = 2009
	CodeFailoverReset   = 2010
	CodeFailoverTrigger = 2011
	CodeRehearse        = 2012
)

// args are the arguments of a request by name.
type args map[string]string

// command is one row of the table.
type command struct {
	name   string
	permit permit
	// args are the names that may occur, in addition to those of every command.
	args []string
	// timeout bounds the method of Supervisor, writing the answer not included.
	timeout time.Duration
	// waits adds the argument timeout to that.
	waits bool
	// code is the number of its failure.
	code int
	// logged commands change something.
	logged bool
	// run returns the Response, nil for a command that has none.
	run func(ctx context.Context, sup Supervisor, a args) (any, error)
}

// Time limits of commands: those that look, those that change something and may
// have to wait for workers, and the one that waits for a script.
const (
	lookTimeout   = 10 * time.Second
	changeTimeout = 30 * time.Second
	switchTimeout = 15 * time.Minute
)

// commands is everything that can be asked.
var commands = []command{
	{name: "ping", permit: anyone, timeout: lookTimeout, code: CodePing, run: runPing},
	{name: "status", permit: anyone, timeout: lookTimeout, code: CodeStatus, run: runStatus},
	{name: "status-details", permit: anyone, timeout: lookTimeout, code: CodeStatusDetails, run: runStatusDetails},
	{name: "failover-status", permit: anyone, timeout: lookTimeout, code: CodeFailoverStatus, run: runFailoverStatus},
	{name: "failover-history", permit: owner, timeout: lookTimeout, code: CodeFailoverHistory, args: []string{"count"}, run: runFailoverHistory},
	{name: "conf-ls", permit: owner, timeout: lookTimeout, code: CodeConfList, run: runConfList},
	{name: "conf-get", permit: owner, timeout: lookTimeout, code: CodeConfGet, args: []string{"key"}, run: runConfGet},
	{name: "shutdown-gracefully", permit: owner, timeout: changeTimeout, code: CodeShutdown, logged: true, args: []string{"timeout"}, run: runShutdown(ShutdownGraceful)},
	{name: "shutdown", permit: owner, timeout: changeTimeout, code: CodeShutdown, logged: true, run: runShutdown(ShutdownImmediate)},
	{name: "cancel-shutdown", permit: owner, timeout: changeTimeout, code: CodeShutdown, logged: true, run: runShutdown(ShutdownCancel)},
	{name: "switch-to", permit: owner, timeout: switchTimeout, waits: true, code: CodeSwitchTo, logged: true, args: []string{"server", "force", "timeout"}, run: runSwitchTo},
	{name: "failover-pause", permit: owner, timeout: changeTimeout, code: CodeFailoverPause, logged: true, run: runOrder(FailoverPause)},
	{name: "failover-resume", permit: owner, timeout: changeTimeout, code: CodeFailoverResume, logged: true, run: runOrder(FailoverResume)},
	{name: "failover-reset", permit: owner, timeout: changeTimeout, code: CodeFailoverReset, logged: true, run: runOrder(FailoverReset)},
	{name: "failover-trigger", permit: owner, timeout: changeTimeout, code: CodeFailoverTrigger, logged: true, args: []string{"server", "force"}, run: runOrder(FailoverTrigger)},
	{name: "failover-rehearse", permit: owner, timeout: changeTimeout, code: CodeRehearse, run: runRehearse},
	{name: "clear-server", permit: owner, timeout: changeTimeout, code: CodeClearServer, logged: true, args: []string{"server", "force"}, run: runClearServer},
}

// findCommand returns the row of a name, nil for none.
func findCommand(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

// errBadRequest marks arguments that no pgagroal-cli sends.
var errBadRequest = errors.New("bad request")

// The methods may leave lists and maps nil; the document shows them empty.

func runPing(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Ping(ctx)
	r.Servers = orEmptyMap(r.Servers)
	return r, err
}

func runStatus(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Status(ctx)
	return r.filled(), err
}

func runStatusDetails(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.StatusDetails(ctx)
	r.StatusResponse = r.filled()
	r.Limits, r.Databases, r.Connections = orEmpty(r.Limits), orEmpty(r.Databases), orEmpty(r.Connections)
	return r, err
}

func runFailoverStatus(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.FailoverStatus(ctx)
	r.Alarms, r.Servers = orEmpty(r.Alarms), orEmpty(r.Servers)
	return r, err
}

func (r StatusResponse) filled() StatusResponse {
	r.Servers, r.Standbys = orEmptyMap(r.Servers), orEmptyMap(r.Standbys)
	r.Confinement.InForce, r.Confinement.Lacking = orEmpty(r.Confinement.InForce), orEmpty(r.Confinement.Lacking)
	r.Failover.Alarms = orEmpty(r.Failover.Alarms)
	return r
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func orEmptyMap[T any](m map[string]T) map[string]T {
	if m == nil {
		return map[string]T{}
	}
	return m
}

func runConfList(ctx context.Context, sup Supervisor, _ args) (any, error) { return sup.ConfList(ctx) }

// historyResponse answers failover-history.
type historyResponse struct {
	History []json.RawMessage
}

func runFailoverHistory(ctx context.Context, sup Supervisor, a args) (any, error) {
	count, _, err := a.number("count")
	if err != nil {
		return nil, err
	}
	entries, err := sup.FailoverHistory(ctx, count)
	return historyResponse{History: orEmpty(entries)}, err
}

// runConfGet puts the value below the key that was asked for, so that the
// answer for one key is an object too.
func runConfGet(ctx context.Context, sup Supervisor, a args) (any, error) {
	value, err := sup.ConfGet(ctx, a["key"])
	if err != nil || a["key"] == "" {
		return value, err
	}
	return map[string]any{a["key"]: value}, nil
}

func runShutdown(mode ShutdownMode) func(context.Context, Supervisor, args) (any, error) {
	return func(ctx context.Context, sup Supervisor, a args) (any, error) {
		timeout, err := a.timeout()
		if err != nil {
			return nil, err
		}
		return nil, sup.Shutdown(ctx, mode, timeout)
	}
}

func runSwitchTo(ctx context.Context, sup Supervisor, a args) (any, error) {
	timeout, err := a.timeout()
	if err != nil {
		return nil, err
	}
	var answer FailoverAnswer
	err = a.onServer(ctx, func(ctx context.Context, server string, force bool) (err error) {
		answer, err = sup.SwitchTo(ctx, server, force, timeout)
		return err
	})
	return answer, err
}

func runClearServer(ctx context.Context, sup Supervisor, a args) (any, error) {
	return nil, a.onServer(ctx, sup.ClearServer)
}

func runRehearse(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.FailoverRehearse(ctx)
	r.Runs, r.Candidates = orEmpty(r.Runs), orEmpty(r.Candidates)
	r.Problems, r.Warnings = orEmpty(r.Problems), orEmpty(r.Warnings)
	return r, err
}

func runOrder(word FailoverWord) func(context.Context, Supervisor, args) (any, error) {
	return func(ctx context.Context, sup Supervisor, a args) (any, error) {
		force, err := a.flag("force")
		if err != nil {
			return nil, err
		}
		return sup.Failover(ctx, FailoverOrder{Word: word, Server: a["server"], Force: force})
	}
}

func (a args) onServer(ctx context.Context, do func(context.Context, string, bool) error) error {
	force, err := a.flag("force")
	if err != nil {
		return err
	}
	if a["server"] == "" {
		return fmt.Errorf("%w: no server is named", errBadRequest)
	}
	return do(ctx, a["server"], force)
}

func (a args) flag(name string) (bool, error) {
	switch a[name] {
	case "":
		return false, nil
	case "true":
		return true, nil
	}
	return false, fmt.Errorf("%w: %s is neither true nor absent", errBadRequest, name)
}

// number returns a whole number of at least 0; ok is false when it is absent.
func (a args) number(name string) (n int, ok bool, err error) {
	text, ok := a[name]
	if !ok {
		return 0, false, nil
	}
	v, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, false, fmt.Errorf("%w: %s is not a number", errBadRequest, name)
	}
	return int(v), true, nil
}

// timeout returns the seconds of a request as a duration, nil when absent.
func (a args) timeout() (*time.Duration, error) {
	n, ok, err := a.number("timeout")
	if err != nil || !ok {
		return nil, err
	}
	d := time.Duration(n) * time.Second
	return &d, nil
}
