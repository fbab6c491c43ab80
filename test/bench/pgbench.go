package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// overrun is how much longer than planned pgbench may take.
const overrun = time.Minute

func seconds(d time.Duration) int { return max(1, int(d/time.Second)) }

// clientEnv is pgbench's environment. Neither GSSAPI nor, without need, TLS: a client that
// asks for them first would cost a round trip.
func (r *rig) clientEnv(t legs) []string {
	mode := "disable"
	if t != noLeg {
		mode = "require"
	}
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "PGSSLMODE=" + mode, "PGGSSENCMODE=disable", "PGPASSWORD=" + password, r.opensslEnv()}
}

func (r *rig) connection(port int, user string) []string {
	return []string{"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", user}
}

func reconnects(w workload) bool { return slices.Contains(w.args, "-C") }

// threads returns the number of pgbench's threads: one for each client if clients
// connect all the time, because a thread does nothing else while it connects.
func (r *rig) threads(w workload) int {
	if reconnects(w) {
		return w.clients
	}
	return min(r.jobs, w.clients)
}

func needsPrepared(w workload) bool { return slices.Contains(w.args, "prepared") }

// outcome is the result of one run of pgbench.
type outcome struct {
	transactions int
	tps          float64
	latencies    []int // microseconds, of the sample
}

// pgbench loads a pooler for some time. With a sample it records latencies.
func (r *rig) pgbench(ctx context.Context, w workload, port int, d time.Duration, sample float64) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, d+overrun)
	defer cancel()
	args := append(r.connection(port, w.user()), "-n", "-c", strconv.Itoa(w.clients), "-j", strconv.Itoa(r.threads(w)), "-T", strconv.Itoa(seconds(d)))
	args = append(args, w.args...)
	if w.script != "" {
		file := r.path("script.sql")
		if err := os.WriteFile(file, []byte(w.script), 0o600); err != nil {
			return outcome{}, fmt.Errorf("write the script: %w", err)
		}
		args = append(args, "-f", file)
	}
	if sample > 0 {
		args = append(args, "-l", "--log-prefix="+r.path("log", "t"))
		if sample < 1 {
			args = append(args, "--sampling-rate="+strconv.FormatFloat(sample, 'f', -1, 64))
		}
	}
	_, others := r.processors()
	argv := pinned(others, append(append([]string{pgtest.Binary("pgbench")}, args...), database))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = r.clientEnv(w.tls)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("pgbench: %w: %s", errors.Join(err, context.Cause(ctx)), tail(string(text)))
	}
	out, err := parsePgbench(string(text))
	if err == nil && sample > 0 {
		out.latencies, err = takeLatencies(r.path("log"))
	}
	return out, err
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// parsePgbench reads the summary. A failed transaction makes the figures
// worthless, so it is an error.
func parsePgbench(text string) (outcome, error) {
	o := outcome{transactions: -1, tps: -1}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " = ")
		}
		first, _, _ := strings.Cut(value, " ")
		var err error
		switch name {
		case "number of transactions actually processed":
			o.transactions, err = strconv.Atoi(first)
		case "number of failed transactions":
			if first != "0" {
				err = fmt.Errorf("%s transactions failed", first)
			}
		case "tps":
			o.tps, err = strconv.ParseFloat(first, 64)
		}
		if err != nil {
			return outcome{}, fmt.Errorf("pgbench: %w", err)
		}
	}
	if o.transactions <= 0 || o.tps < 0 {
		return outcome{}, fmt.Errorf("pgbench has done nothing: %s", tail(text))
	}
	return o, nil
}

// takeLatencies reads the logs of all threads and removes them.
func takeLatencies(dir string) ([]int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "t.*"))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read latencies: %w", err)
		}
		if err := os.Remove(f); err != nil {
			return nil, fmt.Errorf("remove latencies: %w", err)
		}
		if all, err = parseLatencies(all, string(text)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// parseLatencies appends the third field of each line: client, number, time in
// microseconds, and more.
func parseLatencies(all []int, text string) ([]int, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("latencies: line %q", line)
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("latencies: line %q: %w", line, err)
		}
		all = append(all, n)
	}
	return all, nil
}

// percentile returns the smallest value that is not exceeded by the given share of all
// values; it sorts them.
func percentile(values []int, part float64) int {
	slices.Sort(values)
	return values[max(0, int(math.Ceil(part*float64(len(values))))-1)]
}
