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
	pgbouncer = "PgBouncer"
)

// Kinds of event loops, as ev_backend has them.
const (
	epoll   = "epoll"
	ioUring = "io_uring"
)

// Names of what is measured.
const (
	tps         = "tps"         // transactions in a second
	cpu         = "cpu"         // of the pooler, microseconds for each transaction
	p50         = "p50"         // latency, milliseconds
	p99         = "p99"         // latency, milliseconds
	idleCPU     = "idle cpu"    // milliseconds of processor time in a second
	memoryFixed = "fixed"       // PSS of a pooler without clients, MiB
	memoryEach  = "each client" // PSS that an idle client adds, KiB
	loadCPU     = "load cpu"    // of clients and server, microseconds for each transaction, where they are ours
)

// target is what clients connect to.
type target struct {
	kind    string
	mode    string // pipeline or pool_mode; empty for direct
	loop    string // ev_backend, of pgagroal alone
	workers int    // of pgagroal alone; 1 when 0
	secret  bool   // PgBouncer's userlist.txt has SCRAM secrets and no passwords
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
	if t.secret {
		name += ", SCRAM secret"
	}
	return name
}

// workload is one case.
type workload struct {
	name, title string
	targets     []target
	clients     int
	limit       int      // most backends; 0 means one for each client and some more
	args        []string // of pgbench
	script      string   // of pgbench, instead of its own
	sample      float64  // part of the transactions whose latency is noted; 0 means none
	scram       bool     // clients log in with a password
	vacuum      bool     // the tables are cleaned before each measurement
	goals       []goal
	mock        bool // the server is that of a crew
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

// every is all targets, in the order of the tables. PgBouncer follows prepared
// statements in its transaction mode since 1.21; an older one is left out.
func every(peers ...string) []target {
	all := append([]target{{kind: direct}}, modes("session", "transaction", "performance")...)
	return append(all, bouncers(peers...)...)
}

func bouncers(modes ...string) []target {
	var all []target
	for _, m := range modes {
		all = append(all, target{kind: pgbouncer, mode: m})
	}
	return all
}

// often is the part of transactions to note where there are hundreds of thousands.
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
	return append(all, special()...)
}

func selectOnly(protocol string, clients int) workload {
	n := strconv.Itoa(clients)
	return workload{
		name: "select-" + protocol + "-" + n, title: "select-only, protocol " + protocol + ", " + n + " clients", clients: clients,
		args: []string{"-S", "-M", protocol}, targets: every("session", "transaction"), sample: often, goals: goalsAt(clients),
	}
}

// special is the cases that look at one property each.
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
			args: []string{"-S", "-M", "simple", "-C"}, scram: true,
			targets: append(append([]target{{kind: direct}}, modes("session", "transaction")...),
				append(bouncers("session", "transaction"), target{kind: pgbouncer, mode: "session", secret: true})...),
			goals: []goal{{metric: cpu, most: 0.12}},
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
			name: "idle-cpu", title: "processor time with 1000 idle clients", clients: 1000, limit: 20, measure: measureIdleCPU, targets: onlyTransaction,
			goals: []goal{{metric: idleCPU, most: 1, absolute: true}},
		},
		{
			name: "idle-memory", title: "memory of idle clients", limit: 20, measure: measureMemory, targets: onlyTransaction,
			goals: []goal{{metric: memoryEach, most: 1, absolute: true}, {metric: memoryFixed, most: 25, absolute: true}},
		},
	}
}

func oneAndTwo() []target {
	all := modes("session", "transaction")
	for _, t := range all[:len(all):len(all)] {
		t.workers = 2
		all = append(all, t)
	}
	return all
}
