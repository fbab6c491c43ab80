package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// outageLimit is the longest time without a successful write that the demo accepts.
const outageLimit = 2500 * time.Millisecond

// verdict collects promises and whether they were kept.
type verdict struct{ broken int }

func (v *verdict) check(kept bool, format string, args ...any) {
	word := "ok     "
	if !kept {
		word = "BROKEN "
		v.broken++
	}
	fmt.Println(word, fmt.Sprintf(format, args...))
}

// report stops the clients, tells what they saw and checks every promise.
func (a *act) report(ctx context.Context) error {
	a.load.stop()
	next, other := a.roles()
	stored, err := readBack(ctx, next)
	if err != nil {
		return err
	}
	fmt.Println()
	a.tellClients(stored)
	var v verdict
	a.checkOutage(&v)
	v.check(len(a.load.disconnected) == 0, "%d of %d clients were disconnected", len(a.load.disconnected), writers+readers)
	lost := missing(a.load.acked, stored)
	v.check(len(lost) == 0, "%d of %d acknowledged writes lost%s", len(lost), len(a.load.acked), some(lost))
	old := a.cluster.Nodes[0]
	if err := errors.Join(
		a.checkRuns(&v, "failover", address(old), address(next)),
		a.checkRuns(&v, "notify", address(old), address(next), address(other)),
	); err != nil {
		return err
	}
	a.checkPool(ctx, &v, next, other)
	if v.broken > 0 {
		return fmt.Errorf("%d promises were broken", v.broken)
	}
	if a.picture == "" {
		return nil
	}
	return a.drawTo(a.picture)
}

// tellClients prints the figures that aren't promises.
func (a *act) tellClients(stored map[row]bool) {
	l := a.load
	again := 0
	for _, n := range l.disconnected {
		again += n
	}
	fmt.Printf("clients: %d, %d of them disconnected (%d times in all)\n", writers+readers, len(l.disconnected), again)
	fmt.Print("errors that they saw:")
	for _, code := range slices.Sorted(maps.Keys(l.errors)) {
		fmt.Printf("  %s x %d%s", code, l.errors[code], meaning[code])
	}
	if len(l.errors) == 0 {
		fmt.Print("  none")
	}
	fmt.Printf("\nwrites with unknown outcome: %d, of which %d were committed\n", l.unknown, len(stored)-len(l.acked)+len(missing(l.acked, stored)))
	fmt.Printf("longest time without a successful read: %d ms\n\n", longestGap(l.readTimes).Milliseconds())
}

// meaning explains the SQLSTATEs that clients may get in a failover.
var meaning = map[string]string{
	"08006": " (connection to the server lost, transaction rolled back)",
	"08007": " (connection to the server lost, outcome unknown)",
	"57P01": " (session ended)",
	"57P03": " (no primary in time)",
	"25P02": " (statement in a failed transaction)",
}

func (a *act) checkOutage(v *verdict) {
	gap := longestGap(a.load.ackTimes)
	v.check(gap <= outageLimit, "longest time without a successful write: %d ms (limit %d ms)", gap.Milliseconds(), outageLimit.Milliseconds())
}

// checkRuns compares the runs of a hook with the documented arguments.
func (a *act) checkRuns(v *verdict, hook string, want ...[]string) error {
	runs, err := a.runs(hook)
	if err != nil {
		return err
	}
	args := slices.Concat(want...)
	kept := len(runs) == 1 && slices.Equal(runs[0], args)
	v.check(kept, "%s script ran %d time(s): %v; wanted once: %v", hook, len(runs), runs, args)
	return nil
}

func (a *act) checkPool(ctx context.Context, v *verdict, next, other *pgtest.Node) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.query(ctx, "INSERT INTO orders VALUES (0, 1)")
	v.check(err == nil, "a new client can write through pgagroal%s", because(err))
	err = exec.CommandContext(ctx, filepath.Join(a.bin, "pgagroal-cli"), "-c", a.path("pgagroal.conf"), "ping", "--write").Run()
	v.check(err == nil, "pgagroal-cli ping --write says that clients can write%s", because(err))
	err = other.WaitStreaming(ctx, next)
	v.check(err == nil && !a.attached.IsZero(), "%s streams from %s%s", other.Name, next.Name, because(err))
	names, err := next.Query(ctx, "SHOW synchronous_standby_names")
	v.check(err == nil && names == syncNames, "%s waits for a standby at commit again: synchronous_standby_names = %s%s", next.Name, names, because(err))
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

func address(n *pgtest.Node) []string { return []string{n.Host, strconv.Itoa(n.Port)} }

// readBack reads the table directly from the server, without pgagroal.
func readBack(ctx context.Context, n *pgtest.Node) (map[row]bool, error) {
	c, err := pgtest.Connect(ctx, n.Config("app", "", "app"))
	if err != nil {
		return nil, fmt.Errorf("read the table back: %w", err)
	}
	res, err := c.Query(ctx, "SELECT writer, n FROM orders")
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, fmt.Errorf("read the table back: %w", err)
	}
	stored := map[row]bool{}
	for _, r := range res.Rows {
		writer, writerErr := strconv.Atoi(r[0])
		n, nErr := strconv.Atoi(r[1])
		if err := errors.Join(writerErr, nErr); err != nil {
			return nil, fmt.Errorf("read the table back: %w", err)
		}
		stored[row{writer, n}] = true
	}
	return stored, nil
}

// missing returns the acknowledged rows that aren't stored.
func missing(acked []row, stored map[row]bool) []row {
	var lost []row
	for _, r := range acked {
		if !stored[r] {
			lost = append(lost, r)
		}
	}
	return lost
}

// some names the first few of rows.
func some(rows []row) string {
	if len(rows) == 0 {
		return ""
	}
	var names []string
	for _, r := range rows[:min(len(rows), 5)] {
		names = append(names, fmt.Sprintf("writer %d row %d", r.writer, r.n))
	}
	return ", for instance " + strings.Join(names, ", ")
}

// longestGap returns the longest time between two consecutive successes.
func longestGap(times []time.Time) time.Duration {
	sorted := slices.SortedFunc(slices.Values(times), time.Time.Compare)
	var gap time.Duration
	for i := 1; i < len(sorted); i++ {
		gap = max(gap, sorted[i].Sub(sorted[i-1]))
	}
	return gap
}
