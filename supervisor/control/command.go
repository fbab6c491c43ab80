package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
)

// args are the arguments of a request, by name.
type args map[string]string

// handler answers one command. control.Commands says which arguments the command takes.
type handler struct {
	permit permit
	// logged marks commands that change something.
	logged bool
	// run returns the Response, nil if the command has none.
	run func(ctx context.Context, sup Supervisor, a args) (any, error)
}

// handlers has one for each of control.Commands.
var handlers = map[string]handler{
	control.Ping:               {permit: anyone, run: runPing},
	control.Status:             {permit: anyone, run: runStatus},
	control.StatusDetails:      {permit: anyone, run: runStatusDetails},
	control.FailoverStatus:     {permit: anyone, run: runFailoverStatus},
	control.FailoverHistory:    {permit: owner, run: runFailoverHistory},
	control.ConfList:           {permit: owner, run: runConfList},
	control.ConfGet:            {permit: owner, run: runConfGet},
	control.ConfSet:            {permit: owner, logged: true, run: runConfSet},
	control.ConfReset:          {permit: owner, logged: true, run: runConfReset},
	control.ConfAlias:          {permit: owner, run: runConfAlias},
	control.ConfReload:         {permit: owner, logged: true, run: runConfReload},
	control.ShutdownGracefully: {permit: owner, logged: true, run: runShutdown(ShutdownGraceful)},
	control.ShutdownNow:        {permit: owner, logged: true, run: runShutdown(ShutdownImmediate)},
	control.CancelShutdown:     {permit: owner, logged: true, run: runShutdown(ShutdownCancel)},
	control.EnableDatabase:     {permit: owner, logged: true, run: runDatabase(false)},
	control.DisableDatabase:    {permit: owner, logged: true, run: runDatabase(true)},
	control.Flush:              {permit: owner, logged: true, run: runFlush},
	control.ClearPrometheus:    {permit: owner, logged: true, run: runClearFigures},
	control.Pause:              {permit: owner, logged: true, run: runPause},
	control.Resume:             {permit: owner, logged: true, run: runResume},
	control.Clients:            {permit: owner, run: runClients},
	control.Servers:            {permit: owner, run: runServers},
	control.Pools:              {permit: owner, run: runPools},
	control.Kick:               {permit: owner, logged: true, run: runKick},
	control.WorkerRecycle:      {permit: owner, logged: true, run: runRecycle},
	control.Events:             {permit: owner, run: runEvents},
	control.Upgrade:            {permit: owner, logged: true, run: runUpgrade},
	control.SwitchTo:           {permit: owner, logged: true, run: runSwitchTo},
	control.FailoverPause:      {permit: owner, logged: true, run: runOrder(OrderPause)},
	control.FailoverResume:     {permit: owner, logged: true, run: runOrder(OrderResume)},
	control.FailoverReset:      {permit: owner, logged: true, run: runOrder(OrderReset)},
	control.FailoverTrigger:    {permit: owner, logged: true, run: runOrder(OrderTrigger)},
	control.FailoverRehearse:   {permit: owner, run: runRehearse},
	control.ClearServer:        {permit: owner, logged: true, run: runClearServer},
}

// errBadRequest is for arguments that pgagroal-cli never sends.
var errBadRequest = errors.New("bad request")

// A Supervisor may leave lists and maps nil; the document shows them as empty.

func runPing(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Ping(ctx)
	r.Servers = orEmptyMap(r.Servers)
	return r, err
}

func runStatus(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Status(ctx)
	return filled(r), err
}

func runStatusDetails(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.StatusDetails(ctx)
	r.StatusResponse = filled(r.StatusResponse)
	r.Limits, r.Databases, r.Connections = orEmpty(r.Limits), orEmpty(r.Databases), orEmpty(r.Connections)
	return r, err
}

func runFailoverStatus(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.FailoverStatus(ctx)
	r.Alarms, r.Servers = orEmpty(r.Alarms), orEmpty(r.Servers)
	return r, err
}

func filled(r control.StatusResponse) control.StatusResponse {
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

func runConfAlias(ctx context.Context, sup Supervisor, _ args) (any, error) {
	return sup.ConfAlias(ctx)
}

func runConfSet(ctx context.Context, sup Supervisor, a args) (any, error) {
	persist, err := a.flag(control.ArgPersist)
	if err != nil {
		return nil, err
	}
	value, ok := a[control.ArgValue]
	if a[control.ArgKey] == "" || !ok {
		return nil, fmt.Errorf("%w: conf set needs a key and a value", errBadRequest)
	}
	return sup.ConfSet(ctx, a[control.ArgKey], value, persist)
}

func runConfReset(ctx context.Context, sup Supervisor, a args) (any, error) {
	if a[control.ArgKey] == "" {
		return nil, fmt.Errorf("%w: conf reset needs a key, or all", errBadRequest)
	}
	r, err := sup.ConfReset(ctx, a[control.ArgKey])
	r.Changed, r.NeedsRestart = orEmpty(r.Changed), orEmpty(r.NeedsRestart)
	return r, err
}

func runUpgrade(ctx context.Context, sup Supervisor, _ args) (any, error) { return sup.Upgrade(ctx) }

func runConfReload(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.ConfReload(ctx)
	r.Changed, r.NeedsRestart = orEmpty(r.Changed), orEmpty(r.NeedsRestart)
	return r, err
}

func runFailoverHistory(ctx context.Context, sup Supervisor, a args) (any, error) {
	count, _, err := a.number(control.ArgCount)
	if err != nil {
		return nil, err
	}
	entries, err := sup.FailoverHistory(ctx, count)
	return control.HistoryResponse{History: orEmpty(entries)}, err
}

// confSources is the member of a response to conf get that says where values were set. No key has this name.
const confSources = "sources"

// runConfGet puts the value under its key, so that the answer for one key is an object,
// too.
func runConfGet(ctx context.Context, sup Supervisor, a args) (any, error) {
	key := a[control.ArgKey]
	value, sources, err := sup.ConfGet(ctx, key)
	if err != nil {
		return nil, err
	}
	response, ok := value.(map[string]any)
	if key != "" || !ok {
		response = map[string]any{key: value}
	}
	if key != confSources { // a server may have this name
		response[confSources] = sources
	}
	return response, nil
}

func runShutdown(mode ShutdownMode) func(context.Context, Supervisor, args) (any, error) {
	return func(ctx context.Context, sup Supervisor, a args) (any, error) {
		timeout, err := a.timeout()
		if err != nil {
			return nil, err
		}
		r, err := sup.Shutdown(ctx, mode, timeout)
		if mode != ShutdownGraceful {
			return nil, err
		}
		return r, err
	}
}

func runFlush(ctx context.Context, sup Supervisor, a args) (any, error) {
	mode := slices.Index(control.FlushModes, a[control.ArgMode])
	if mode < 0 {
		return nil, fmt.Errorf("%w: %q is no way to flush", errBadRequest, cut(a[control.ArgMode]))
	}
	timeout, err := a.timeout()
	if err != nil {
		return nil, err
	}
	database, err := a.database()
	if err != nil {
		return nil, err
	}
	return sup.Flush(ctx, FlushOrder{Mode: FlushMode(mode), Database: database, Timeout: timeout})
}

func runPause(ctx context.Context, sup Supervisor, a args) (any, error) {
	order, err := a.pauseOrder()
	if err != nil {
		return nil, err
	}
	return sup.Pause(ctx, order)
}

func runResume(ctx context.Context, sup Supervisor, a args) (any, error) {
	order, err := a.pauseOrder()
	if err != nil {
		return nil, err
	}
	return sup.Resume(ctx, order)
}

func (a args) pauseOrder() (o PauseOrder, err error) {
	if o.Server = a[control.ArgServer]; o.Server == "" {
		if o.Database, err = a.database(); err != nil {
			return o, err
		}
	}
	o.Timeout, err = a.timeout()
	return o, err
}

func runClients(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Clients(ctx)
	r.Clients = orEmpty(r.Clients)
	return r, err
}

func runServers(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Servers(ctx)
	r.Servers = orEmpty(r.Servers)
	return r, err
}

func runPools(ctx context.Context, sup Supervisor, _ args) (any, error) {
	r, err := sup.Pools(ctx)
	r.Pools = orEmpty(r.Pools)
	return r, err
}

func runEvents(ctx context.Context, sup Supervisor, a args) (any, error) {
	var o EventsOrder
	var err error
	if o.Count, _, err = a.number(control.ArgCount); err != nil {
		return nil, err
	}
	if o.Follow, err = a.flag(control.ArgFollow); err != nil {
		return nil, err
	}
	if text, ok := a[control.ArgAfter]; ok {
		after, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q is not the number of an event", errBadRequest, cut(text))
		}
		o.After = &after
	}
	r, err := sup.Events(ctx, o)
	r.Events = orEmpty(r.Events)
	return r, err
}

func runKick(ctx context.Context, sup Supervisor, a args) (any, error) {
	id, err := a.client()
	if err != nil {
		return nil, err
	}
	return nil, sup.Kick(ctx, id)
}

func runRecycle(ctx context.Context, sup Supervisor, a args) (any, error) {
	which := a[control.ArgWorker]
	if which == "" || len(which) > maxWorker {
		return nil, fmt.Errorf("%w: worker recycle needs the process id of a worker, or all", errBadRequest)
	}
	return sup.Recycle(ctx, which)
}

// maxWorker is longer than a process id, in digits.
const maxWorker = 20

func runClearFigures(ctx context.Context, sup Supervisor, _ args) (any, error) {
	return nil, sup.ClearFigures(ctx)
}

// maxDatabase is longer than the name of a database can be, in bytes.
const maxDatabase = 255

func runDatabase(disable bool) func(context.Context, Supervisor, args) (any, error) {
	return func(ctx context.Context, sup Supervisor, a args) (any, error) {
		name, err := a.database()
		if err != nil {
			return nil, err
		}
		r, err := sup.SwitchDatabase(ctx, name, disable)
		r.Databases = orEmpty(r.Databases)
		return r, err
	}
}

func runSwitchTo(ctx context.Context, sup Supervisor, a args) (any, error) {
	timeout, err := a.timeout()
	if err != nil {
		return nil, err
	}
	var answer control.FailoverAnswer
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
		force, err := a.flag(control.ArgForce)
		if err != nil {
			return nil, err
		}
		return sup.Failover(ctx, FailoverOrder{Word: word, Server: a[control.ArgServer], Force: force})
	}
}

func (a args) onServer(ctx context.Context, do func(context.Context, string, bool) error) error {
	force, err := a.flag(control.ArgForce)
	if err != nil {
		return err
	}
	if a[control.ArgServer] == "" {
		return fmt.Errorf("%w: no server is named", errBadRequest)
	}
	return do(ctx, a[control.ArgServer], force)
}

func (a args) database() (string, error) {
	name := a[control.ArgDatabase]
	if name == "" || len(name) > maxDatabase {
		return "", fmt.Errorf("%w: the name of a database has 1 to %d bytes", errBadRequest, maxDatabase)
	}
	return name, nil
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

// client returns the id of a client.
func (a args) client() (uint64, error) {
	id, err := strconv.ParseUint(a[control.ArgID], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not the id of a client", errBadRequest, cut(a[control.ArgID]))
	}
	return id, nil
}

// timeout returns the seconds of a request as a duration, nil when absent.
func (a args) timeout() (*time.Duration, error) {
	n, ok, err := a.number(control.ArgTimeout)
	if err != nil || !ok {
		return nil, err
	}
	d := time.Duration(n) * time.Second
	return &d, nil
}
