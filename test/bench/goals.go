package main

import "fmt"

// goal is a goal for the median of one of pgagroal's metrics. It is a ratio to the
// peer's median in the same run unless it is absolute.
type goal struct {
	metric      string
	loop        string  // event loop to which it applies; empty for all
	most, least float64 // limits; 0 is none
	absolute    bool
	looksUp     bool // it applies to targets with auth_query, and the peer is the target without
	watched     bool // it applies to targets that are watched, and the peer is the target that isn't
	keeps       bool // it applies to targets with kept sessions, and the peer is the target without
	workers     int  // it applies to so many workers, and the peer is one worker
}

// goalsAt returns the goals of cases that load a pooler with that many clients.
func goalsAt(clients int) []goal {
	switch clients {
	case 1:
		return []goal{{metric: p50, most: 1.05}}
	case 16:
		return []goal{{metric: cpu, loop: ioUring, most: 0.75}, {metric: cpu, loop: epoll, most: 0.95}, {metric: tps, least: 1}}
	case 64:
		return []goal{{metric: cpu, loop: ioUring, most: 0.85}, {metric: cpu, loop: epoll, most: 1.15}, {metric: tps, least: 1}}
	}
	return nil
}

// isFor reports whether a goal applies to a target.
func (g goal) isFor(t target) bool {
	return t.kind == pgagroal && g.looksUp == t.looksUp && g.watched == t.watched && g.keeps == t.keeps && (g.loop == "" || g.loop == t.loop) && (g.workers == 0 || g.workers == t.workers)
}

// peers returns the targets with which a target is compared, the best choice first:
// PgBouncer in the same mode, else in session mode. Session mode is the choice for
// performance, which PgBouncer doesn't have, and for prepared statements before
// PgBouncer 1.21.
func (g goal) peers(t target) []target {
	if g.workers > 0 {
		t.workers = 0
		return []target{t}
	}
	if g.looksUp || g.watched || g.keeps {
		t.looksUp, t.watched, t.keeps = false, false, false
		return []target{t}
	}
	return peersOf(t)
}

func peersOf(t target) []target {
	return []target{{kind: pgbouncer, mode: t.mode}, {kind: pgbouncer, mode: "session"}}
}

func (g goal) bound() string {
	if g.least != 0 {
		return fmt.Sprintf("≥ %.2f", g.least)
	}
	return fmt.Sprintf("≤ %.2f", g.most)
}

func (g goal) met(v float64) bool {
	if g.least != 0 {
		return v >= g.least
	}
	return v <= g.most
}

// verdict is one line of the table of goals.
type verdict struct {
	title, target, metric, against, bound string
	value                                 float64
	met                                   bool
}

// verdicts compares the results with a case's goals. What wasn't measured has no
// verdict.
func verdicts(w workload, r *results) []verdict {
	var all []verdict
	for _, g := range w.goals {
		for _, t := range w.targets {
			if !g.isFor(t) {
				continue
			}
			if v, ok := g.judge(w, t, r); ok {
				all = append(all, v)
			}
		}
	}
	return all
}

func (g goal) judge(w workload, t target, r *results) (verdict, bool) {
	value, ok := r.median(w.name, t.name(), g.metric)
	if !ok {
		return verdict{}, false
	}
	v := verdict{title: w.name, target: t.name(), metric: g.metric, bound: g.bound(), value: value, against: "-"}
	if !g.absolute {
		peer, base, ok := r.peer(w.name, g.metric, g.peers(t))
		if !ok {
			return verdict{}, false
		}
		v.value, v.against = value/base, peer
	}
	v.met = g.met(v.value)
	return v, true
}

// steady is how much worse than the other build a case may be.
const steady = 0.03

// changes compares the results with those of the other build, if there is one.
func changes(w workload, r *results) []verdict {
	var all []verdict
	for _, g := range []goal{{metric: cpu, most: 1 + steady}, {metric: tps, least: 1 - steady}} {
		for _, t := range w.targets {
			old := t
			old.kind = before
			value, ok := r.median(w.name, t.name(), g.metric)
			base, ok2 := r.median(w.name, old.name(), g.metric)
			if t.kind != pgagroal || !ok || !ok2 || base == 0 {
				continue
			}
			all = append(all, verdict{
				title: w.name, target: t.name(), metric: g.metric, against: "before", bound: g.bound(),
				value: value / base, met: g.met(value / base),
			})
		}
	}
	return all
}
