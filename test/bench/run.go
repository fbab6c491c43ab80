package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// turnCost is how long a turn takes in addition to its load: start, login, end.
const turnCost = 1500 * time.Millisecond

// measureAll measures the chosen cases. If ctx ends early it returns the results so far
// with the error.
func measureAll(ctx context.Context, o options, chosen []workload) (_ *results, err error) {
	if o.rounds < 1 {
		return nil, errors.New("-rounds must be 1 or more")
	}
	r, err := newRig(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	m := r.describe(ctx)
	for i, w := range chosen {
		chosen[i].targets = r.able(w, m)
	}
	fmt.Fprintf(os.Stderr, "This takes about %v.\n", r.estimate(chosen).Round(time.Minute))
	res := &results{Runs: []machine{m}}
	for _, w := range chosen {
		if err := r.play(ctx, w, res); err != nil {
			return res, err
		}
	}
	return res, nil
}

// able returns the targets of a case whose programs are installed and that can do what
// the case needs.
func (r *rig) able(w workload, m machine) []target {
	targets := w.targets
	if r.options.before != "" {
		targets = withBefore(targets)
	}
	return slices.DeleteFunc(slices.Clone(targets), func(t target) bool {
		switch t.kind {
		case newer:
			return r.options.newer == "" || unprepared(t, w, m.Newer)
		case haproxy:
			return r.proxy == ""
		}
		return unprepared(t, w, m.PgBouncer)
	})
}

// unprepared reports whether the case has prepared statements and the target is a
// PgBouncer that can't follow them.
func unprepared(t target, w workload, version string) bool {
	return t.isBouncer() && t.mode == "transaction" && needsPrepared(w) && !followsPrepared(version)
}

func (r *rig) estimate(chosen []workload) time.Duration {
	var sum time.Duration
	for _, w := range chosen {
		turn := turnCost + r.warmup + r.duration
		switch w.name {
		case "idle-cpu":
			turn = turnCost + settleCPU + r.window
		case "idle-memory", "tls-idle":
			turn = 4*turnCost + settleCPU + r.settle
		}
		sum += turn * time.Duration(len(w.targets)*r.options.rounds)
	}
	return sum
}

// play gives every target of a case its turn in each round. It records a turn that
// fails and goes on; only the end of ctx stops it.
func (r *rig) play(ctx context.Context, w workload, res *results) error {
	for round := range r.options.rounds {
		for i := range w.targets {
			t := w.targets[(i+round)%len(w.targets)]
			values, err := r.turn(ctx, w, t)
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in case %s: %w", w.name, context.Cause(ctx))
			}
			if err != nil {
				res.fail(w.name, t.name(), err)
				fmt.Fprintf(os.Stderr, "%s, round %d, %s: %v\n", w.name, round+1, t.name(), err)
				continue
			}
			res.add(w.name, t.name(), values)
			fmt.Fprintf(os.Stderr, "%s, round %d of %d, %s: %s\n", w.name, round+1, r.options.rounds, t.name(), line(values))
		}
	}
	return nil
}

// turn measures one target once.
func (r *rig) turn(ctx context.Context, w workload, t target) (_ map[string]float64, err error) {
	if w.vacuum {
		if err := r.vacuum(ctx); err != nil {
			return nil, err
		}
	}
	if w.mock {
		if r.crew, err = newCrew(fmt.Sprintf("127.0.0.1:%d", r.node().Port)); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, r.crew.close()); r.crew = nil }()
	}
	p, err := r.startPooler(ctx, t, w)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.logTail())
		}
		err = errors.Join(err, p.stop())
	}()
	if w.measure != nil {
		return w.measure(ctx, r, w, p)
	}
	return r.measureLoad(ctx, w, p)
}

// measureLoad runs pgbench twice; only the second run counts.
func (r *rig) measureLoad(ctx context.Context, w workload, p *pooler) (map[string]float64, error) {
	if r.warmup > 0 {
		if _, err := r.pgbench(ctx, w, p.port, r.warmup, 0); err != nil {
			return nil, fmt.Errorf("warm-up: %w", err)
		}
	}
	var o outcome
	spent, err := p.during(func() (err error) {
		o, err = r.pgbench(ctx, w, p.port, r.duration, w.sample)
		return err
	})
	if err != nil {
		return nil, err
	}
	values := map[string]float64{tps: o.tps}
	if reconnects(w) && o.tps > 0 {
		values[cycle] = 1e3 * float64(w.clients) / o.tps
	}
	if p.cmd != nil {
		values[cpu] = spent.Seconds() * 1e6 / float64(o.transactions)
	}
	if len(o.latencies) > 0 {
		values[p50] = float64(percentile(o.latencies, 0.50)) / 1e3
		values[p99] = float64(percentile(o.latencies, 0.99)) / 1e3
	}
	return values, nil
}
