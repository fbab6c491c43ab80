package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

const (
	// watchers is how many web consoles are open, scrapesEach how many scrapes come in a second.
	watchers    = 20
	scrapesEach = 10
	// promptMS is how long an answer may take at most, in milliseconds, whatever hangs.
	promptMS = 50
	// snapshotEach is the least time between two snapshots of pgagroal. Whoever asks sooner gets the same figures.
	snapshotEach = time.Second
)

// alsoWatched adds a watched target after each.
func alsoWatched(list []target) []target {
	var all []target
	for _, t := range list {
		all = append(all, t)
		t.watched = true
		all = append(all, t)
	}
	return all
}

func promptGoals() []goal {
	var all []goal
	for _, m := range []string{worstOrder, worstLogin, worstScrape, worstPage} {
		all = append(all, goal{metric: m, most: promptMS, absolute: true})
	}
	return all
}

// show has pgagroal serve metrics and the web console.
func (p *pooler) show(conf io.Writer) error {
	for _, port := range []*int{&p.metrics, &p.console} {
		n, release, err := pgtest.ReservePort()
		if err != nil {
			return err
		}
		*port, p.release = n, append(p.release, release)
	}
	_, err := fmt.Fprintf(conf, "metrics = %d\nconsole = %d\nhealth_check = on\nhealth_check_period = 1s\nfailover_probe_timeout = 30s\n", p.metrics, p.console)
	return err
}

// addHole adds a server that answers nothing: each probe of it hangs for its whole time.
func (p *pooler) addHole(conf io.Writer) error {
	port, release, err := pgtest.SilentPort()
	if err != nil {
		return err
	}
	p.release = append(p.release, release)
	_, err = fmt.Fprintf(conf, "\n[gone]\nhost = 127.0.0.1\nport = %d\n", port)
	return err
}

// fetch reads an answer of pgagroal-console to its end.
func fetch(ctx context.Context, port int, path string) error {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		return err
	}
	r, err := http.DefaultClient.Do(rq)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, r.Status)
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// watch looks at a pooler in each way until the result is called, which returns what has gone
// wrong.
func (r *rig) watch(ctx context.Context, p *pooler) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	errs := make(chan error, watchers+2)
	look := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				errs <- err
			}
		})
	}
	for range watchers {
		look(func() error {
			return errors.Join(fetch(ctx, p.console, "/api/events"), errors.New("a web console's stream has ended"))
		})
	}
	look(func() error { return scrapeOften(ctx, p.metrics) })
	look(func() error { return r.top(ctx, p) })
	return func() error {
		cancel()
		wg.Wait()
		close(errs)
		var all []error
		for err := range errs {
			all = append(all, err)
		}
		return errors.Join(all...)
	}
}

func scrapeOften(ctx context.Context, port int) error {
	tick := time.NewTicker(time.Second / scrapesEach)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := fetch(ctx, port, "/metrics"); err != nil {
				return err
			}
		}
	}
}

// top runs pgagroal-cli top at a terminal, which script(1) makes.
func (r *rig) top(ctx context.Context, p *pooler) error {
	cmd := r.command(ctx, []string{"script", "-qfec", "stty rows 50 cols 160; exec " + r.cli(p) + " top", "/dev/null"})
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "SHELL=/bin/sh")
	stay, hold, err := os.Pipe() // its standard input, which never ends
	if err != nil {
		return err
	}
	defer stay.Close()
	defer hold.Close()
	cmd.Stdin = stay
	out, err := cmd.CombinedOutput()
	return fmt.Errorf("top has ended: %w: %q", err, out[max(0, len(out)-500):])
}

func (r *rig) cli(p *pooler) string {
	return r.programsOf(p.target) + "/pgagroal-cli -c " + p.dir + "/pgagroal.conf"
}

// workersTime returns the processor time of the workers alone.
func (p *pooler) workersTime() (time.Duration, error) {
	u, err := p.usage()
	if err != nil {
		return 0, err
	}
	sum, n := time.Duration(0), 0
	for _, pid := range u.pids {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.HasPrefix(string(title), "pgagroal: worker") {
			continue
		}
		spent, err := processorTime(pid)
		if err != nil {
			return 0, err
		}
		sum, n = sum+spent, n+1
	}
	if n == 0 {
		return 0, errors.New("no worker was found")
	}
	return sum, nil
}

// measureWatched is measureLoad with the processor time of the workers alone: what looks is
// served by others.
func measureWatched(ctx context.Context, r *rig, w workload, p *pooler) (_ map[string]float64, err error) {
	if p.target.watched {
		end := r.watch(ctx, p)
		defer func() { err = errors.Join(err, end()) }()
	}
	if _, err := r.pgbench(ctx, w, p.port, max(r.warmup, time.Second), 0); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	begin, err := p.workersTime()
	if err != nil {
		return nil, err
	}
	o, err := r.pgbench(ctx, w, p.port, r.duration, w.sample)
	if err != nil {
		return nil, err
	}
	spent, err := p.workersTime()
	if err != nil {
		return nil, err
	}
	values := map[string]float64{tps: o.tps, workerCPU: (spent - begin).Seconds() * 1e6 / float64(o.transactions)}
	if len(o.latencies) > 0 {
		values[p50] = float64(percentile(o.latencies, 0.50)) / 1e3
		values[p99] = float64(percentile(o.latencies, 0.99)) / 1e3
	}
	return values, nil
}

// measureAnswers returns the longest time that each kind of answer took. A probe of the server
// that is gone hangs all the time.
func measureAnswers(ctx context.Context, r *rig, w workload, p *pooler) (map[string]float64, error) {
	worst := map[string]float64{}
	end := time.Now().Add(r.warmup + r.duration)
	for first := true; first || time.Now().Before(end); first = false {
		next := time.Now().Add(snapshotEach)
		for _, x := range []struct {
			metric string
			ask    func() error
		}{
			{worstOrder, func() error { return r.order(ctx, p) }},
			{worstLogin, func() error { return logInAndAsk(ctx, p, w) }},
			{worstScrape, func() error { return fetch(ctx, p.metrics, "/metrics") }},
			{worstPage, func() error { return errors.Join(fetch(ctx, p.console, "/"), fetch(ctx, p.console, "/api")) }},
		} {
			begin := time.Now()
			if err := x.ask(); err != nil {
				return nil, fmt.Errorf("%s: %w", x.metric, err)
			}
			if !first { // which has to connect
				worst[x.metric] = max(worst[x.metric], time.Since(begin).Seconds()*1e3)
			}
		}
		if err := pause(ctx, time.Until(next)); err != nil {
			return nil, err
		}
	}
	return worst, nil
}

func (r *rig) order(ctx context.Context, p *pooler) error {
	out, err := r.command(ctx, strings.Fields(r.cli(p)+" status")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgagroal-cli status: %w: %s", err, out)
	}
	return nil
}

func logInAndAsk(ctx context.Context, p *pooler, w workload) error {
	c, err := login(ctx, p.addr(), w.user(), nil)
	if err != nil {
		return err
	}
	return errors.Join(c.query(ctx, "SELECT 1"), c.close())
}
