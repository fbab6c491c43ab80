package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

func TestMedianTakesTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{7}, 7}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestPercentileIsAValueThatWasSeen(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i
	}
	for _, c := range []struct {
		values []int
		part   float64
		want   int
	}{{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {[]int{3}, 0.99, 3}, {[]int{3, 1}, 0.5, 1}} {
		if got := percentile(c.values, c.part); got != c.want {
			t.Errorf("percentile %v of %d values is %d, want %d", c.part, len(c.values), got, c.want)
		}
	}
}

const summary = `transaction type: <builtin: select only>
number of clients: 16
duration: 10 s
number of transactions actually processed: 312345
number of failed transactions: 0 (0.000%)
latency average = 0.511 ms
initial connection time = 49.609 ms
tps = 31234.567890 (without initial connection time)
`

func TestSummaryOfPgbenchIsRead(t *testing.T) {
	got, err := parsePgbench(summary)
	if err != nil || got.transactions != 312345 || got.tps != 31234.56789 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFailedTransactionsMakeNoFigures(t *testing.T) {
	for name, text := range map[string]string{
		"some failed":  strings.Replace(summary, "transactions: 0 (0", "transactions: 3 (0", 1),
		"none done":    strings.Replace(summary, "312345", "0", 1),
		"nothing said": "",
		"no number":    strings.Replace(summary, "31234.567890", "many", 1),
	} {
		if got, err := parsePgbench(text); err == nil {
			t.Errorf("%s: no error but %+v", name, got)
		}
	}
}

func TestLatenciesOfAllThreadsAreTaken(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"t.17": "0 1 250 0 1700000000 1\n3 1 90 0 1700000000 2\n", "t.17.1": "1 1 1000 0 1700000000 3\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := takeLatencies(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p := percentile(got, 1); len(got) != 3 || p != 1000 {
		t.Errorf("got %v", got)
	}
	if rest, _ := os.ReadDir(dir); len(rest) > 0 {
		t.Errorf("%d files are left for the next measurement", len(rest))
	}
	if _, err := parseLatencies(nil, "0 1 failed 0 1700000000 1\n"); err == nil {
		t.Error("a failed transaction has a latency")
	}
}

func TestStatIsReadWhateverTheNameHolds(t *testing.T) {
	got, err := parseStat([]byte("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4000 20 0 1 0 5 6 7\n"))
	if want := (stat{state: 'S', parent: 7}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseStat([]byte("42 (a) S")); err == nil {
		t.Error("a short line is no error")
	}
}

func TestMemoryIsTheSumOfParts(t *testing.T) {
	got, err := parsePSS("00400000-7fff [rollup]\nRss:  9000 kB\nPss:                1234 kB\nPss_Dirty: 7 kB\n")
	if err != nil || got != 1234*1024 {
		t.Errorf("got %v, %v", got, err)
	}
	if own, err := pss([]int{os.Getpid()}); err != nil || own < 1<<20 {
		t.Errorf("this process has %v bytes, %v", own, err)
	}
}

// What a child has worked counts for its parent's tree.
func TestProcessorTimeOfAllDescendantsCounts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const work = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sh -c '"+work+"; echo done; read -r _'; :")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	before, err := treeUsage(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	after, err := treeUsage(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if spent := after.cpu - before.cpu; spent < time.Millisecond {
		t.Errorf("%v were spent", spent)
	}
	if len(after.pids) != 2 || !slices.Contains(after.pids, cmd.Process.Pid) {
		t.Errorf("processes %v live, want %d and a child", after.pids, cmd.Process.Pid)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read at the end of its input fails
	if _, err := treeUsage(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended has used something")
	}
}

func TestProcessesThatComeOrGoAreAnError(t *testing.T) {
	before := usage{pids: []int{1, 2}, cpu: time.Second}
	if got, err := (usage{pids: []int{1, 2}, cpu: 3 * time.Second}).since(before); err != nil || got != 2*time.Second {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := (usage{pids: []int{1, 3}, cpu: 3 * time.Second}).since(before); err == nil {
		t.Error("another process is no error")
	}
}

func TestOldPgBouncersAreSparedPreparedStatements(t *testing.T) {
	for version, want := range map[string]bool{
		"PgBouncer 1.18.0": false, "PgBouncer 1.20.1": false, "PgBouncer 1.21.0": true, "PgBouncer 2.0": true, "unknown": false, "": false,
	} {
		if got := followsPrepared(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
	r := &rig{options: options{newer: "pgbouncer"}, proxy: "haproxy"}
	m := machine{PgBouncer: "PgBouncer 1.18.0", Newer: "PgBouncer 1.24.1"}
	prepared, simple := selectOnly("prepared", 16), selectOnly("simple", 16)
	if all := r.able(prepared, m); len(all) != len(prepared.targets)-1 {
		t.Errorf("%d targets of %d are left", len(all), len(prepared.targets))
	}
	if all := r.able(simple, m); len(all) != len(simple.targets) {
		t.Errorf("%d targets of %d are left", len(all), len(simple.targets))
	}
}

func TestTargetsWithoutAProgramAreLeftOut(t *testing.T) {
	w := selectOnly("simple", 16)
	for _, x := range (&rig{}).able(w, machine{}) {
		if x.kind == newer || x.kind == haproxy || x.kind == before {
			t.Errorf("%s is measured", x.name())
		}
	}
	both := 0
	for _, x := range (&rig{options: options{before: "bin"}}).able(w, machine{}) {
		if x.kind == before {
			both++
		}
	}
	if both != 6 {
		t.Errorf("%d targets of the other build, want 6", both)
	}
}

func TestCasesAndTargetsAreChosenByPatterns(t *testing.T) {
	chosen, err := choose("select-simple-16, share-*", "pgagroal transaction *,direct")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range chosen {
		for _, x := range w.targets {
			got = append(got, w.name+": "+x.name())
		}
	}
	want := []string{
		"select-simple-16: direct", "select-simple-16: pgagroal transaction io_uring", "select-simple-16: pgagroal transaction epoll",
		"share-200-20: direct", "share-200-20: pgagroal transaction io_uring", "share-200-20: pgagroal transaction epoll",
	}
	if !slices.Equal(got, want) {
		t.Errorf("chosen are %q, want %q", got, want)
	}
	for _, nothing := range [][2]string{{"nonsense", "*"}, {"*", "nonsense"}, {"[", "*"}, {"*", "["}} {
		if _, err := choose(nothing[0], nothing[1]); err == nil {
			t.Errorf("%q chooses something", nothing)
		}
	}
}

// The relay takes what a client says to a server and back, and ends with either.
func TestBareRelayForwardsBothWays(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, kind := range []string{epoll, ioUring} {
		loop, err := reactor.New(kind)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			loop.Run()
		}()
		front, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dialled, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := front.Accept()
		if err != nil {
			t.Fatal(err)
		}
		front.Close()
		if err := join(loop, ours, server.Addr().String()); err != nil {
			t.Fatal(err)
		}
		far, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []net.Conn{dialled, far} {
			_ = c.SetDeadline(time.Now().Add(time.Minute))
		}
		exchange(t, dialled, far, "a question")
		exchange(t, far, dialled, "an answer")
		dialled.Close()
		if n, err := far.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: %d bytes after the client's end", kind, n)
		}
		far.Close()
		loop.Stop()
		<-done
	}
}

func exchange(t *testing.T, from, to net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCasesAndTargetsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range workloads() {
		for _, x := range w.targets {
			key := w.name + "\x00" + x.name()
			if seen[key] {
				t.Errorf("%s has %s twice", w.name, x.name())
			}
			seen[key] = true
		}
	}
}
