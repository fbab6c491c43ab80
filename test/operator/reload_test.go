package operator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// put replaces keys of the main section.
func put(p *pool.Pool, keys map[string]string) {
	for k, v := range keys {
		p.DropKey(k)
		p.SetKey(k, v)
	}
}

// changed returns the keys of one list of the answer to conf reload.
func changed(r map[string]any, list string) string {
	var keys []string
	for _, c := range r[list].([]any) {
		keys = append(keys, c.(map[string]any)["Key"].(string))
	}
	return strings.Join(keys, " ")
}

func TestReloadPutsFilesInEffectAndDisconnectsNobody(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Nodes[0], "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN")
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"failover": "off", "blocking_timeout": "30s"}})
	postgres, ann := p.Connect(), p.Config("ann", "", "postgres")
	held := p.ConnectAs(ann)
	put(p, map[string]string{"blocking_timeout": "0", "max_connections": "60", "log_connections": "off"})
	pool.WriteFile(t, p.Path("pgagroal_hba.conf"), "host all ann all reject\nhost all all all trust\n", 0o644)
	pool.WriteFile(t, p.Path("pgagroal_databases.conf"), "postgres bob 1\n", 0o644)
	r := p.JSON("conf", "reload")
	if got := changed(r, "Changed"); got != "log_connections blocking_timeout hba limits" {
		t.Errorf("changed: %s", got)
	}
	if got := changed(r, "NeedsRestart"); got != "max_connections" || r["Restart"] != true {
		t.Errorf("needs a restart: %s, %v", got, r["Restart"])
	}
	for key, want := range map[string]string{"blocking_timeout": "0s", "max_connections": "50"} {
		if out, errs, _ := p.CLI("conf", "get", key); strings.TrimSpace(out) != want {
			t.Errorf("conf get %s: %q%s, want %s", key, out, errs, want)
		}
	}
	pool.WantCode(t, p.WantRefused(ann), "28000",
		`connection refused: pgagroal_hba.conf rejects host "127.0.0.1", user "ann", database "postgres"`)
	for name, conn := range map[string]*pgtest.Client{"postgres": postgres, "ann, whom the new rules refuse,": held} {
		if got, err := pool.Query(conn, "SELECT 1"); err != nil || got[0][0] != "1" {
			t.Errorf("%s sees %v, %v", name, got, err)
		}
	}
	bob := p.Config("bob", "", "postgres")
	pool.MustQuery(t, p.ConnectAs(bob), "SELECT 1")
	pool.WantCode(t, p.WantRefused(bob), "53300", "")
}

func TestReloadOfADamagedFileKeepsTheOldOneAndAlarms(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	p := s.Pool
	rules := p.Path("pgagroal_hba.conf")
	pool.WriteFile(t, rules, "host all all all trust\nhost all all all blindly\n", 0o644)
	_, errs, code := p.CLI("conf", "reload")
	if code != 1 || !strings.Contains(errs, rules+":2") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	p.Connect()
	s.Alarmed("a reload was refused, and the old configuration is in effect: " + rules + ":2")
	pool.WriteFile(t, rules, "host all all all trust\n", 0o644)
	pool.Must(t, syscall.Kill(p.PID(), syscall.SIGHUP))
	p.WaitLog("configuration is reloaded")
	pgtest.WaitUntil(t, pool.Generous, "the alarm to be over", func() bool { return !s.HasAlarm("a reload was refused") }, p.Log)
}

func TestReloadChangesTheHooks(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 2, pool.Plan{})
	p := s.Pool
	fresh := p.Hook("another.sh", "exit 0")
	put(p, map[string]string{"failover_notify_script": fresh.Path, "failover_script_timeout": "77s"})
	if got := changed(p.JSON("conf", "reload"), "Changed"); got != "failover_notify_script failover_script_timeout" {
		t.Errorf("changed: %s", got)
	}
	p.Connect()
	s.Kill(1)
	s.Opened("n2")
	fresh.WaitRuns(1)
	s.Ran(pool.OneRun(s.Cluster.Nodes[0], s.Cluster.Nodes[1]), nil)
	pool.WriteFile(t, fresh.Path, "#!/bin/sh\n", 0o644)
	_, errs, code := p.CLI("conf", "reload")
	if code != 1 || !strings.Contains(errs, fresh.Path) {
		t.Errorf("a script that can't be run: exit code %d, %s", code, errs)
	}
}

func TestReloadWhileAScriptRunsIsRefused(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pl, open := pool.GatedPlan(t, c, nil)
	s := pool.Play(t, c, pl)
	s.Opened("n1")
	s.Pool.Connect()
	s.Kill(1)
	s.Failover.WaitRuns(1)
	_, errs, code := s.Pool.CLI("conf", "reload")
	if code != 1 || !strings.Contains(errs, "a script runs") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	open()
	s.Opened("n2")
	if _, errs, code := s.Pool.CLI("conf", "reload"); code != 0 {
		t.Errorf("after the run: exit code %d, %s", code, errs)
	}
}

func TestReloadTurnsFailoverOnAndOff(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"failover": "off"}})
	p := s.Pool
	put(p, map[string]string{"failover": "on"})
	if _, errs, code := p.CLI("conf", "reload"); code != 0 {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	p.WaitLog("script runner is ready")
	put(p, map[string]string{"failover": "off"})
	p.JSON("conf", "reload")
	put(p, map[string]string{"failover": "on"})
	p.JSON("conf", "reload")
	p.Connect()
	s.Kill(1)
	s.Opened("n2")
	s.Ran(pool.OneRun(s.Cluster.Nodes[0], s.Cluster.Nodes[1]), pool.OneRun(s.Cluster.Nodes[0], s.Cluster.Nodes[1]))
}

// TestReloadsUnderLoadFailNobodyAndLeakNothing changes rules, limits and keys each time.
func TestReloadsUnderLoadFailNobodyAndLeakNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"failover": "off", "pipeline": "transaction", "log_level": "info"}})
	var asked atomic.Int64
	stop, ended := make(chan struct{}), make(chan error, 8)
	for i := range cap(ended) {
		go func() { ended <- keepAsking(p, i%2 == 0, stop, &asked) }()
	}
	round := func(i int) {
		pool.WriteFile(t, p.Path("pgagroal_hba.conf"), fmt.Sprintf("host all user%d all reject\nhost all all all trust\n", i), 0o644)
		pool.WriteFile(t, p.Path("pgagroal_databases.conf"), fmt.Sprintf("postgres postgres %d\n", 3+i%20), 0o644)
		put(p, map[string]string{"idle_timeout": fmt.Sprint(60 + i), "max_pools": fmt.Sprint(100 + i)})
		before := asked.Load()
		if out, errs, code := p.CLI("conf", "reload"); code != 0 {
			t.Fatalf("reload %d: exit code %d, %s%s", i, code, out, errs)
		}
		pgtest.WaitUntil(t, pool.Generous, "clients to be served after the reload", func() bool { return asked.Load() > before+20 }, p.Log)
	}
	const rounds = 25
	round(0)
	files := openFiles(t, p.PID())
	for i := range rounds {
		round(i + 1)
	}
	close(stop)
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Errorf("a client: %v", err)
		}
	}
	pgtest.WaitUntil(t, pool.Generous, fmt.Sprintf("the supervisor to have no more than the %d files that it had after the first reload", files),
		func() bool { return openFiles(t, p.PID()) <= files }, func() string { return fmt.Sprint(openFiles(t, p.PID())) })
}

// keepAsking asks until stop, over one connection or each time over another one.
func keepAsking(p *pool.Pool, stays bool, stop <-chan struct{}, asked *atomic.Int64) error {
	var conn *pgtest.Client
	for {
		select {
		case <-stop:
			if conn != nil {
				conn.Close()
			}
			return nil
		default:
		}
		if conn == nil || !stays {
			var err error
			if conn, err = p.Try(p.Config("postgres", "", "postgres")); err != nil {
				return err
			}
		}
		if _, err := pool.Query(conn, "SELECT 1"); err != nil {
			return err
		}
		if asked.Add(1); !stays {
			conn.Close()
		}
	}
}

// openFiles counts the descriptors of a process.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(pid), "fd"))
	pool.Must(t, err)
	return len(list)
}

// sections puts other server sections into the configuration, such as "n1 r2": a name ends with the number of its node.
func sections(s *pool.Scene, list string) {
	p := s.Pool
	data, err := os.ReadFile(p.Path("pgagroal.conf"))
	pool.Must(p.T, err)
	at := strings.Index(string(data), "\n[pgagroal]")
	main := string(data)[max(at, 0):]
	if end := strings.Index(main[len("[pgagroal]"):], "\n["); end >= 0 {
		main = main[:end+len("[pgagroal]")+1]
	}
	for _, name := range strings.Fields(list) {
		n := s.Node(int(name[len(name)-1] - '0'))
		main += fmt.Sprintf("\n[%s]\nhost = %s\nport = %d\n", name, n.Host, n.Port)
	}
	pool.WriteFile(p.T, p.Path("pgagroal.conf"), main, 0o644)
}

func TestServersChangeInAReloadAndFailoverGoesOn(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 2, pool.Plan{})
	p := s.Pool
	client := p.Connect()
	sections(s, "n2 n3")
	if _, errs, code := p.CLI("conf", "reload"); code != 1 || !strings.Contains(errs, "n1 is the primary") {
		t.Errorf("without the primary: exit code %d, %s", code, errs)
	}
	s.Alarmed("n1 is the primary")
	if _, err := pool.Query(client, "SELECT 1"); err != nil {
		t.Error(err)
	}
	sections(s, "n3 n1 n2")
	if got := changed(p.JSON("conf", "reload"), "Changed"); got != "servers" {
		t.Errorf("another order: changed %s", got)
	}
	s.Kill(1)
	s.WaitStatus("Phase", "open")
	s.Told("notify")
	next := s.Word("Primary")
	other := map[string]string{"n2": "n3", "n3": "n2"}[next]
	renamed := "r" + other[1:]
	s.Follow(s.Node(int(other[1]-'0')), s.Node(int(next[1]-'0')))
	sections(s, next+" "+renamed)
	if got := changed(p.JSON("conf", "reload"), "Changed"); got != "server."+other+" server.n1" && got != "server.n1 server."+other {
		t.Errorf("the dead server goes, the standby has another name: changed %s", got)
	}
	epoch := s.Epoch()
	p.Stop()
	p.Restart()
	s.WaitStatus("Primary", next)
	if got := s.Epoch(); got != epoch {
		t.Errorf("epoch %d after a restart, before it %d", got, epoch)
	}
	p.WaitState(renamed, "Replica")
	p.Connect()
	s.Kill(int(next[1] - '0'))
	s.Opened(renamed)
	if servers := p.JSON("status")["Servers"].(map[string]any); len(servers) != 2 || servers[renamed] == nil {
		t.Errorf("status has %v", servers)
	}
}
