package main

import (
	"context"
	"fmt"
	"strconv"
)

// Kinds of targets.
const (
	direct    = "direct"
	pgagroal  = "pgagroal"
	before    = "pgagroal before" // another build of it, see -before
	pgbouncer = "PgBouncer"       // the distribution's
	newer     = "newer PgBouncer" // see -pgbouncer
	haproxy   = "HAProxy"         // forwards TCP: each client has its own connection to the server
	relay     = "bare relay"      // only our event loops: no pooler can cost less
)

// Kinds of event loops, as ev_backend has them.
const (
	epoll   = "epoll"
	ioUring = "io_uring"
)

// Names of what is measured.
const (
	tps         = "tps"          // transactions in a second
	cpu         = "cpu"          // of the pooler, microseconds for each transaction
	p50         = "p50"          // latency, milliseconds
	p99         = "p99"          // latency, milliseconds
	cycle       = "cycle"        // connect, one transaction, disconnect, milliseconds
	idleCPU     = "idle cpu"     // milliseconds of processor time in a second
	memoryFixed = "fixed"        // PSS of a pooler without clients, MiB
	memoryEach  = "each client"  // PSS that an idle client adds, KiB
	perCPU      = "per cpu"      // logins for a second of the pooler's processor time
	rate        = "rate"         // clients that came in a second
	firstOne    = "first login"  // of one user, milliseconds
	firstSame   = "first of one" // of many clients of one user at once, milliseconds
	firstMany   = "first logins" // of many users at once, milliseconds
	firsts      = "first ratio"  // of one user, the second to the first
	workerCPU   = "worker cpu"   // of the workers alone, microseconds for each transaction
	worstOrder  = "worst order"  // the longest answer to pgagroal-cli status, milliseconds
	worstLogin  = "worst login"  // the longest login with a query, milliseconds
	worstScrape = "worst scrape" // of the metrics, milliseconds
	worstPage   = "worst page"   // of the web console with its document, milliseconds
	loadCPU     = "load cpu"     // of clients and server, microseconds for each transaction, if they are part of this program
)

// target is what clients connect to.
type target struct {
	kind    string
	mode    string // pipeline or pool_mode; empty for direct
	loop    string // ev_backend, of pgagroal and the bare relay
	workers int    // of pgagroal alone; 1 when 0
	looksUp bool   // pgagroal knows no user and has auth_query
	secret  bool   // PgBouncer's userlist.txt has SCRAM secrets and no passwords
	watched bool   // people and programs look at pgagroal meanwhile, see watch.go
	keeps   bool   // failover_keep_sessions = known
	hole    bool   // pgagroal has a second server, whose host swallows every packet
}

func (t target) name() string {
	name := t.kind
	for _, part := range []string{t.mode, t.loop} {
		if part != "" {
			name += " " + part
		}
	}
	if t.workers > 1 {
		name += ", " + strconv.Itoa(t.workers) + " workers"
	}
	if t.looksUp {
		name += ", auth_query"
	}
	if t.secret {
		name += ", SCRAM secret"
	}
	if t.watched {
		name += ", watched"
	}
	if t.keeps {
		name += ", kept sessions"
	}
	if t.hole {
		name += ", a server is gone"
	}
	return name
}

func (t target) isBouncer() bool { return t.kind == pgbouncer || t.kind == newer }

// workload is one case.
type workload struct {
	name, title string
	targets     []target
	clients     int
	limit       int      // most backends; 0 means one for each client and some more
	args        []string // of pgbench
	script      string   // of pgbench, instead of its own
	sample      float64  // share of transactions whose latency is recorded; 0 means none
	login       string   // how clients log in; empty for users whom only the server can authenticate
	vacuum      bool     // the tables are cleaned before each measurement
	goals       []goal
	mock        bool // the server is that of a crew, see growth.go
	tls         legs // which connections are encrypted, see tls.go
	shows       bool // pgagroal has metrics and a web console
	rsa         bool // the pooler's certificate has RSA 2048, otherwise ECDSA P-256
	// measure replaces the run of pgbench.
	measure func(context.Context, *rig, workload, *pooler) (map[string]float64, error)
}

// modes returns a target for each of pgagroal's pipelines and event loops.
func modes(pipelines ...string) []target {
	var all []target
	for _, p := range pipelines {
		for _, loop := range []string{ioUring, epoll} {
			all = append(all, target{kind: pgagroal, mode: p, loop: loop})
		}
	}
	return all
}

// every returns all targets, in the order of the tables. PgBouncer follows prepared
// statements in its transaction mode since 1.21; an older one is left out.
func every(peers ...string) []target {
	all := append([]target{{kind: direct}}, modes("session", "transaction", "performance")...)
	all = append(all, bouncers(peers...)...)
	for _, m := range peers {
		all = append(all, target{kind: newer, mode: m})
	}
	return append(all, target{kind: haproxy}, target{kind: relay, loop: ioUring}, target{kind: relay, loop: epoll})
}

// withBefore adds the other build's target after each of pgagroal's.
func withBefore(list []target) []target {
	var all []target
	for _, t := range list {
		all = append(all, t)
		if t.kind == pgagroal {
			t.kind = before
			all = append(all, t)
		}
	}
	return all
}

func bouncers(modes ...string) []target {
	var all []target
	for _, m := range modes {
		all = append(all, target{kind: pgbouncer, mode: m})
	}
	return all
}

// often is the share of transactions to record where there are hundreds of thousands.
const often = 0.05

func workloads() []workload {
	var all []workload
	for _, protocol := range []string{"prepared", "simple", "extended"} {
		for _, clients := range []int{1, 16, 64} {
			all = append(all, selectOnly(protocol, clients))
		}
	}
	for _, protocol := range []string{"simple", "prepared"} {
		all = append(all, workload{
			name: "tpcb-" + protocol + "-16", title: "TPC-B, protocol " + protocol + ", 16 clients", clients: 16,
			args: []string{"-M", protocol}, targets: every("session", "transaction"), sample: 1, vacuum: true, goals: goalsAt(16),
		})
	}
	return append(append(append(append(all, kept()...), logins()...), special()...), encrypted()...)
}

// kept returns the cases of sessions that are kept, beside those that aren't.
func kept() []workload {
	var all []workload
	for _, w := range []workload{selectOnly("simple", 16), selectOnly("prepared", 16), selectOnly("extended", 16)} {
		w.name, w.title = "kept-"+w.name, w.title+", with kept sessions and without"
		w.targets = modes("session")
		for _, t := range modes("session") {
			t.keeps = true
			w.targets = append(w.targets, t)
		}
		w.goals = []goal{{metric: cpu, most: 1.08, keeps: true}}
		all = append(all, w)
	}
	return all
}

// How clients log in.
const (
	loginTrust    = "trust"
	loginPassword = "password"
	loginScram    = "scram-sha-256"
	loginMD5      = "md5"
)

// logins returns the cases of clients that connect for one query each.
func logins() []workload {
	var all []workload
	for _, l := range []struct{ name, title, login string }{
		{"trust", "users that pgagroal knows and trusts", loginTrust},
		{"pass", "users whom only the server knows and lets in", ""},
		{"password", "a password", loginPassword},
		{"scram", "SCRAM-SHA-256", loginScram},
	} {
		for _, n := range []int{1, 8, 32} {
			all = append(all, workload{
				name:    fmt.Sprintf("connect-%s-%d", l.name, n),
				title:   fmt.Sprintf("connect, SELECT 1, disconnect; %d clients; %s", n, l.title),
				clients: n, args: []string{"-M", "simple", "-C"}, script: "SELECT 1;\n", login: l.login,
				targets: append(append([]target{{kind: direct}}, modes("session", "transaction")...), bouncers("session", "transaction")...),
				goals:   []goal{{metric: cycle, most: 1.1}, {metric: tps, least: 1}},
			})
		}
	}
	return all
}

func selectOnly(protocol string, clients int) workload {
	n := strconv.Itoa(clients)
	return workload{
		name: "select-" + protocol + "-" + n, title: "select-only, protocol " + protocol + ", " + n + " clients", clients: clients,
		args: []string{"-S", "-M", protocol}, targets: every("session", "transaction"), sample: often, goals: goalsAt(clients),
	}
}

// special returns the cases about one property each.
func special() []workload {
	onlyTransaction := append(modes("transaction"), bouncers("transaction")...)
	return []workload{
		{
			name: "share-200-20", title: "select-only, protocol simple, 200 clients over 20 backends", clients: 200, limit: 20,
			args: []string{"-S", "-M", "simple"}, sample: often,
			targets: append([]target{{kind: direct}}, onlyTransaction...),
			goals:   []goal{{metric: tps, least: 1}, {metric: p99, most: 1}},
		},
		{
			name: "connect-scram", title: "select-only, protocol simple, 16 clients, a connection with SCRAM-SHA-256 for each transaction", clients: 16,
			args: []string{"-S", "-M", "simple", "-C"}, login: loginScram,
			targets: append(append(append([]target{{kind: direct}}, modes("session", "transaction")...), lookedUp()...),
				append(bouncers("session", "transaction"), target{kind: pgbouncer, mode: "session", secret: true})...),
			goals: []goal{{metric: cpu, most: 0.12}, {metric: cpu, most: 1.05, looksUp: true}},
		},
		firstLogins(),
		{
			name: "scram-rate", title: fmt.Sprintf("%d logins a second with SCRAM-SHA-256, two workers", scramRate),
			login: loginScram, measure: measureScram, targets: two(modes("session", "transaction")),
			goals: []goal{{metric: rate, least: 0.98 * scramRate, absolute: true}, {metric: p99, most: 10, absolute: true}},
		},
		{
			name: "result-1mb", title: "results of 1 MiB, protocol simple, 4 clients", clients: 4,
			args: []string{"-M", "simple"}, script: "SELECT repeat('x', 1048576);\n", sample: 1,
			targets: append(append([]target{{kind: direct}}, modes("session", "transaction")...), bouncers("session", "transaction")...),
			goals:   []goal{{metric: cpu, most: 0.4}},
		},
		{
			name: "workers", title: "select-only, protocol prepared, 64 clients, one worker and two", clients: 64,
			args: []string{"-S", "-M", "prepared"}, sample: often, targets: oneAndTwo(),
			goals: []goal{{metric: cpu, most: 1.15, workers: 2}},
		},
		{
			name: "growth", title: fmt.Sprintf("%d queries at a time, 16 clients, one worker and two on a processor each, clients and server as cheap as possible", batchSize),
			clients: 16, mock: true, measure: measureGrowth, targets: oneAndTwo(),
			goals: []goal{{metric: tps, least: 1.1, workers: 2}},
		},
		{
			name: "watched", shows: true, clients: 16, args: []string{"-S", "-M", "simple"}, sample: often,
			title:   fmt.Sprintf("select-only, protocol simple, 16 clients; watched by %d web consoles, %d scrapes a second and top", watchers, scrapesEach),
			targets: alsoWatched(modes("transaction")), measure: measureWatched,
			goals: []goal{{metric: workerCPU, most: 1.01, watched: true}, {metric: tps, least: 0.99, watched: true}},
		},
		{
			name: "hole", title: "answers of pgagroal, with a server whose host is gone and without", shows: true,
			targets: []target{{kind: pgagroal, mode: "transaction", loop: ioUring}, {kind: pgagroal, mode: "transaction", loop: ioUring, hole: true}},
			measure: measureAnswers, goals: promptGoals(),
		},
		{
			name: "idle-cpu", title: "processor time with 1000 idle clients", clients: 1000, limit: 20, measure: measureIdleCPU, targets: onlyTransaction,
			goals: []goal{{metric: idleCPU, most: 1, absolute: true}},
		},
		{
			name: "idle-memory", title: "memory of idle clients", limit: 20, measure: measureMemory, targets: onlyTransaction,
			goals: []goal{{metric: memoryEach, most: 1, absolute: true}, {metric: memoryFixed, most: 25, absolute: true}},
		},
	}
}

// lookedUp returns a target with auth_query for each of pgagroal's.
func lookedUp() []target {
	all := modes("session", "transaction")
	for i := range all {
		all[i].looksUp = true
	}
	return all
}

func oneAndTwo() []target {
	return append(modes("session", "transaction"), two(modes("session", "transaction"))...)
}

// two gives targets two workers.
func two(targets []target) []target {
	for i := range targets {
		targets[i].workers = 2
	}
	return targets
}
