package upgrade

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var upgrades = flag.Int("upgrades", 3, "how many upgrades in a row TestUpgradeKeepsEveryClient makes")

// upgraded waits until the program of the n-th upgrade serves with its own workers.
func upgraded(t testing.TB, p *pool.Pool, n int) {
	t.Helper()
	for _, text := range []string{"upgrade: this version goes on", "worker retires"} {
		want := n
		if text == "worker retires" {
			want *= 2
		}
		pgtest.WaitUntil(t, pool.Generous, fmt.Sprintf("%d times %q", want, text), func() bool {
			return strings.Count(p.Log(), text) >= want
		}, p.Log)
	}
}

// order orders an upgrade, which must begin.
func order(t testing.TB, p *pool.Pool) {
	t.Helper()
	if out, errOut, code := p.CLI("upgrade"); code != 0 {
		t.Fatalf("upgrade: %d, %s%s\n%s", code, out, errOut, p.Log())
	}
}

func descriptors(t testing.TB, p *pool.Pool) (list []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.PID())
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && !strings.HasPrefix(to, "/") { // files of state_dir come and go
			list = append(list, e.Name()+" "+to)
		}
	}
	return list
}

// runsInstalled says which processes of a pool don't run the program that is installed, "" for
// none.
func runsInstalled(t testing.TB, p *pool.Pool, pids ...int) (other string) {
	t.Helper()
	is, err := os.Stat(program(p))
	pool.Must(t, err)
	for _, pid := range pids {
		exe := fmt.Sprintf("/proc/%d/exe", pid)
		if runs, err := os.Stat(exe); err != nil || !os.SameFile(is, runs) {
			to, _ := os.Readlink(exe)
			other += fmt.Sprintf(" %d runs %s (%v)", pid, to, err)
		}
	}
	return other
}

// Clients that write all the time, one that is idle, one in a transaction, and one that runs a
// statement live through upgrades in a row. At the end nothing is left of them. As root, the transaction
// pipeline has a user of its own for its workers, and thus a starter.
func TestUpgradeKeepsEveryClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE TABLE t (id text)")
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			keepsEveryClient(t, c, pipeline)
		})
	}
}

func keepsEveryClient(t *testing.T, c *pgtest.Cluster, pipeline string) {
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"pipeline": pipeline, "failover_keep_sessions": "off"}})
	installed(t, p)
	starts := os.Geteuid() == 0 && pipeline == "transaction"
	if p.AsRoot = starts; starts {
		p.SetKey("user", "postgres")
		p.SetKey("worker_user", "nobody")
	}
	m := pool.NewManager(t, p.Path("notify"))
	p.Run("NOTIFY_SOCKET=" + m.Path)
	p.WaitLog(" ready status=")
	order(t, p)
	upgraded(t, p, 1)
	atRest := func() bool { return len(p.Workers()) == 2 }
	pgtest.WaitUntil(t, pool.Generous, "workers without clients to end", atRest, p.Log)
	serves(t, p)
	before := descriptors(t, p) // the start had inherited some of the test's own
	idle, block, running := p.Connect(), p.Connect(), p.Connect()
	pool.MustQuery(t, block, "BEGIN")
	process := pool.MustQuery(t, block, "SELECT pg_backend_pid()")[0][0]
	load := pool.StartLoad(p.Config("postgres", "", "postgres"))
	for n := 1; n <= *upgrades; n++ {
		sleep := fmt.Sprintf("SELECT pg_sleep(600) /* %s %d */", pipeline, n)
		pool.Must(t, running.Send(t.Context(), &pgproto3.Query{String: sleep}))
		pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE query = '"+sleep+"' AND wait_event = 'PgSleep'", "1")
		install(t, p, build(t, versions[n%2]))
		if n == 2 {
			pool.Must(t, p.Cmd.Process.Signal(syscall.SIGUSR2))
		} else {
			order(t, p)
		}
		upgraded(t, p, n+1)
		if out, _, _ := p.CLI("--format", "json", "ping"); !strings.Contains(out, versions[n%2]) {
			t.Errorf("after upgrade %d: %s", n, out)
		}
		pool.MustQuery(t, idle, "SELECT 1")
		if got := pool.MustQuery(t, block, "SELECT pg_backend_pid()")[0][0]; got != process {
			t.Errorf("the transaction goes on in process %v, not %v", got, process)
		}
		pool.Must(t, running.Cancel(t.Context()))
		if _, err := running.ReadResult(t.Context()); pgtest.Code(err) != "57014" {
			t.Errorf("a cancelled statement ends with %v", err)
		}
		serves(t, p)
		if starts {
			if other := runsInstalled(t, p, p.Starter()); other != "" {
				t.Errorf("after upgrade %d the starter is not of it:%s", n, other)
			}
		}
	}
	pool.MustQuery(t, block, "COMMIT")
	load.End()
	if seen := load.Seen(); seen.Disconnected > 0 || seen.Errors != "" || len(seen.Acked) == 0 {
		t.Errorf("the load has seen %d disconnections and%s, and %d commits", seen.Disconnected, seen.Errors, len(seen.Acked))
	}
	told := func() (reloads, processes int) {
		return m.Count("RELOADING=1"), m.Count(fmt.Sprintf("MAINPID=%d", p.PID()))
	}
	pgtest.WaitUntil(t, pool.Generous, "the service manager to hear of each upgrade", func() bool {
		r, n := told()
		return r > *upgrades && n > *upgrades+1
	}, p.Log)
	if r, n := told(); r != *upgrades+1 || n != *upgrades+2 {
		t.Errorf("the service manager has heard RELOADING %d times and of the process %d times", r, n)
	}
	for _, cl := range []*pgtest.Client{idle, block, running} {
		pool.Must(t, cl.Close())
	}
	pgtest.WaitUntil(t, pool.Generous, "the old workers to end", atRest, p.Log)
	all := append(p.Workers(), p.PID(), p.Prober())
	if starts {
		all = append(all, p.Starter())
	}
	if other := runsInstalled(t, p, all...); other != "" {
		t.Errorf("not all processes are of the last version:%s", other)
	}
	pgtest.WaitUntil(t, pool.Generous, "no more descriptors than at the start", func() bool { return len(descriptors(t, p)) <= len(before) },
		func() string { return fmt.Sprintf("before %v\nnow %v", before, descriptors(t, p)) })
}

// serves connects a client for a moment.
func serves(t testing.TB, p *pool.Pool) {
	t.Helper()
	cl, err := p.Try(p.Config("postgres", "", "postgres"))
	pool.Must(t, err)
	defer cl.Close()
	pool.MustQuery(t, cl, "SELECT 1")
}

// Whatever is wrong with a new version: nothing changes, it is an alarm, and no client notices.
func TestBrokenVersionChangesNothing(t *testing.T) {
	t.Parallel()
	pipelines := []string{"transaction"}
	if *all {
		pipelines = append(pipelines, "session")
	}
	for _, pipeline := range pipelines {
		c := pgtest.New(t, pgtest.Options{})
		p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
			"pipeline": pipeline, "max_connections": "90", "authentication_timeout": "60s",
		}})
		installed(t, p)
		p.Run()
		p.WaitLog(" ready status=")
		unhurt := load(t, c.Primary(), p)
		workers := fmt.Sprint(p.Workers())
		breakVersions(t, p)
		if now := fmt.Sprint(p.Workers()); now != workers {
			t.Errorf("the workers were %s, and are %s", workers, now)
		}
		install(t, p, build(t, versions[1]))
		order(t, p)
		upgraded(t, p, 1)
		if alarms := fmt.Sprint(p.JSON("failover", "status")["Alarms"]); strings.Contains(alarms, "upgrade") {
			t.Errorf("after an upgrade the alarms are %s", alarms)
		}
		unhurt()
	}
}

// load starts clients that write all the time, with -all 64 of pgbench and psycopg2, and returns what ends them
// and checks that they have noticed nothing.
func load(t *testing.T, n *pgtest.Node, p *pool.Pool) (unhurt func()) {
	t.Helper()
	pool.AskNode(t, n, "CREATE TABLE t (id text); CREATE TABLE written (by text)")
	if *all {
		b := startBusy(t, p, "PGSSLMODE=disable")
		return func() { b.end(t, n) }
	}
	l := pool.StartLoad(p.Config("postgres", "", "postgres"))
	return func() {
		l.End()
		if seen := l.Seen(); seen.Disconnected > 0 || seen.Errors != "" || len(seen.Acked) == 0 {
			t.Errorf("the load has seen %d disconnections and%s, and %d commits", seen.Disconnected, seen.Errors, len(seen.Acked))
		}
	}
}

// breakVersions installs versions that are broken in one way each, and orders an upgrade.
func breakVersions(t *testing.T, p *pool.Pool) {
	t.Helper()
	conf, err := os.ReadFile(p.Path("pgagroal.conf"))
	pool.Must(t, err)
	for _, way := range []struct {
		name, script, says string
		spoil              func()
		ofFiles            bool
	}{
		{name: "crashes", script: "kill -SEGV $$", says: "segmentation fault"},
		{name: "refuses", script: "echo something is missing >&2; exit 1", says: "something is missing"},
		{name: "hangs", script: "exec sleep 1000", says: "has not ended within"},
		{name: "reads another hand-over", script: `echo '{"version":"9.9","hand_over":99}' >&3`, says: "reads hand-overs of version 99"},
		{name: "can't be executed", script: "exit 0", says: "permission denied", spoil: func() { pool.Must(t, os.Chmod(program(p), 0o644)) }},
		{name: "no configuration", script: "exit 0", says: "the configuration can't be read", ofFiles: true, spoil: func() {
			pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), append(conf, "log_level = nonsense\n"...), 0o644))
		}},
		{name: "changes", script: "exit 0", says: "need a restart: workers", spoil: func() {
			text := strings.Replace(string(conf), "workers = 2", "workers = 3", 1)
			pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), []byte(text), 0o644))
		}},
	} {
		script := p.Path("script")
		pool.Must(t, os.WriteFile(script, []byte("#!/bin/sh\n"+way.script+"\n"), 0o755))
		install(t, p, script)
		if way.spoil != nil {
			way.spoil()
		}
		failed := strings.Count(p.Log(), "the upgrade has failed")
		if way.ofFiles { // pgagroal-cli reads them, too
			pool.Must(t, p.Cmd.Process.Signal(syscall.SIGUSR2))
		} else if out, errOut, code := p.CLI("upgrade"); code == 0 || !strings.Contains(out+errOut, way.says) {
			t.Errorf("%s: %d, %s%s", way.name, code, out, errOut)
		}
		pgtest.WaitUntil(t, pool.Generous, "the upgrade to fail", func() bool { return strings.Count(p.Log(), "the upgrade has failed") > failed }, p.Log)
		pool.Must(t, os.WriteFile(p.Path("pgagroal.conf"), conf, 0o644))
		if alarms := fmt.Sprint(p.JSON("failover", "status")["Alarms"]); !strings.Contains(alarms, way.says) {
			t.Errorf("%s: the alarms are %s", way.name, alarms)
		}
	}
}

// A failover right after an upgrade, while workers of the version before live, runs the script
// once and reaches their clients. During the run there is no upgrade.
func TestFailoverRightAfterAnUpgradeRunsOnce(t *testing.T) {
	t.Parallel()
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			failsOverAfterUpgrade(t, pipeline)
		})
	}
}

func failsOverAfterUpgrade(t *testing.T, pipeline string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, pool.HastyKeys(map[string]string{"pipeline": pipeline, "failover_keep_sessions": "known"}))
	s := pool.Ready(t, c, pl)
	installed(t, s.Pool)
	s.Pool.Run()
	s.Opened("n1")
	s.Pool.WaitLog("script runner is ready")
	before := s.Pool.Connect()
	pool.MustQuery(t, before, "SET TimeZone = 'Asia/Tokyo'")
	pool.PrepareStatement(t, before, "zone", "SELECT current_setting('TimeZone') || current_setting('work_mem')")
	want := "Asia/Tokyo4MB"
	if pipeline == "session" { // there every setting is the client's
		pool.MustQuery(t, before, "SET work_mem = '7MB'")
		want = "Asia/Tokyo7MB"
	}
	running := s.Pool.Connect() // its worker lives until the statement has ended
	pool.Must(t, running.Send(t.Context(), &pgproto3.Query{String: "SELECT pg_sleep(600)"}))
	pool.WaitNode(t, c.Nodes[0], "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", "1")
	epoch := s.Epoch()
	install(t, s.Pool, build(t, versions[1]))
	order(t, s.Pool)
	pool.Must(t, c.Nodes[0].Kill())
	upgraded(t, s.Pool, 1)
	s.WaitStatus("Phase", "running")
	if out, errOut, code := s.Pool.CLI("upgrade"); code == 0 || !strings.Contains(out+errOut, "a script runs") && !strings.Contains(out+errOut, "phase running") {
		t.Errorf("an upgrade during a run: %d, %s%s", code, out, errOut)
	}
	open()
	s.Opened("n2")
	s.Notify.WaitRuns(1)
	if runs := s.Failover.Runs(); len(runs) != 1 {
		t.Errorf("the runs are %v", runs)
	}
	if got := s.Epoch(); got != epoch+1 {
		t.Errorf("the epoch was %d, and is %d", epoch, got)
	}
	if got := pool.MustQuery(t, before, "SELECT pg_is_in_recovery()"); got[0][0] != "f" {
		t.Errorf("a client of a worker of the version before is at a standby: %v", got)
	}
	if got := pool.RunPrepared(t, before, "zone"); got != want {
		t.Errorf("after the upgrade and the failover its settings are %s, want %s", got, want)
	}
	if _, err := running.ReadResult(t.Context()); pgtest.Code(err) != "08007" {
		t.Errorf("a statement that ran in a worker of the version before ends with %v", err)
	}
	if got := pool.MustQuery(t, running, "SELECT pg_is_in_recovery()"); got[0][0] != "f" {
		t.Errorf("its client goes on at a standby: %v", got)
	}
}
