package operator

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestEveryQuestionIsAnsweredInEveryFormat(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	for _, tt := range []struct {
		words []string
		field string // of the response
	}{
		{[]string{"ping"}, "Servers"},
		{[]string{"status"}, "MaxConnections"},
		{[]string{"status", "details"}, "Connections"},
		{[]string{"conf", "ls"}, "main_configuration_path"},
		{[]string{"conf", "get"}, "max_connections"},
		{[]string{"failover", "status"}, "Epoch"},
		{[]string{"failover", "history"}, "History"},
	} {
		if out, errs, code := s.Pool.CLI(tt.words...); code != 0 || errs != "" || out == "" || strings.Contains(out, "Outcome") {
			t.Errorf("%v: exit %d, %s%s", tt.words, code, out, errs)
		}
		out, errs, code := s.Pool.CLI(append(tt.words, "--format", "tree")...)
		if code != 0 || errs != "" || !strings.Contains(out, "Outcome:\n  Status: true\n") || !strings.Contains(out, "\n  "+tt.field) {
			t.Errorf("%v: exit %d, %s%s", tt.words, code, out, errs)
		}
		if r := s.Pool.JSON(tt.words...); r[tt.field] == nil {
			t.Errorf("%v in json has no %s but %v", tt.words, tt.field, slices.Sorted(maps.Keys(r)))
		}
	}
	for key, want := range map[string]string{
		"max_connections": "50", "pgagroal.max_connections": "50", "server.n1.port": fmt.Sprint(s.Node(1).Port), "failover_kill_delay": "200ms",
	} {
		if out, errs, code := s.Pool.CLI("conf", "get", key); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("conf get %s: exit %d, %q%s; want %q", key, code, out, errs, want)
		}
	}
}

func TestWhatIsUnknownIsRefusedWithAnExitCode(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{})
	for _, words := range [][]string{
		{"switch-to", "n9"},
		{"clear", "server", "n9"},
		{"clear", "server", "n9", "--force"},
		{"conf", "get", "no_such_key"},
		{"no-such-command"},
		{"shutdown", "sometime"},
		{"shutdown", "cancel"},
	} {
		out, errs, code := s.Pool.CLI(words...)
		if code != 1 || errs == "" && !strings.Contains(out, "Status: false") {
			t.Errorf("%v: exit %d, %s%s; want 1 and a reason", words, code, out, errs)
		}
		if last := words[min(len(words)-1, 2)]; last == "n9" && !strings.Contains(out+errs, "n9") {
			t.Errorf("%v doesn't name the server: %s%s", words, out, errs)
		}
	}
	s.Opened("n1")
	if got := pool.NodeOf(t, s.Pool.Connect()); got != "n1" {
		t.Errorf("a client is on %s", got)
	}
}

func TestStatusDetailsListConnections(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"log_connections": "off"}})
	cfg := p.Config("postgres", "", "postgres")
	cl := p.ConnectAs(pool.WithParam(cfg, "application_name", "a ledger"))
	pool.MustQuery(t, cl, "BEGIN")
	var got map[string]any
	pgtest.WaitUntil(t, pool.Generous, "one connection to be listed", func() bool {
		list, _ := p.JSON("status", "details")["Connections"].([]any)
		if len(list) == 1 {
			got, _ = list[0].(map[string]any)
		}
		return len(list) == 1
	})
	want := map[string]any{"State": "Active", "Database": "postgres", "Username": "postgres", "AppName": "a ledger", "Server": "n1"}
	if diff := cmp.Diff(want, pick(got, want)); diff != "" {
		t.Errorf("connection (-want +got):\n%s", diff)
	}
	if pid, _ := got["PID"].(float64); !slices.Contains(p.Workers(), int(pid)) {
		t.Errorf("PID %v is none of the workers %v", got["PID"], p.Workers())
	}
	traffic, _ := p.JSON("status", "details")["Traffic"].(map[string]any)
	if q, _ := traffic["Queries"].(float64); q < 1 || traffic["Clients"] != 1.0 || traffic["Waiting"] != 0.0 {
		t.Errorf("traffic %v", traffic)
	}
	if r := p.JSON("status"); r["ActiveConnections"] != 1.0 || r["Status"] != "Running" {
		t.Errorf("status %v", r)
	}
}

// pick returns those fields of m that want has.
func pick(m, want map[string]any) map[string]any {
	out := map[string]any{}
	for k := range want {
		out[k] = m[k]
	}
	return out
}

func TestPingTellsOfADeadPrimaryAndOfADeadPooler(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 1, pool.Plan{Keys: map[string]string{"failover": "off", "health_check": "on", "health_check_period": "1s"}})
	s.Do("ping", "--primary")
	s.Do("ping", "--write")
	s.Kill(1)
	s.Alarmed("n1 does not answer")
	for option, want := range map[string]int{"": 0, "--primary": 3, "--write": 3} {
		out, errs, code := s.Pool.CLI(strings.Fields("ping " + option)...)
		if code != want || !strings.Contains(out, "n1      Down") || !strings.Contains(out, "! clients can't write: ") {
			t.Errorf("ping %s: exit %d, want %d:\n%s%s", option, code, want, out, errs)
		}
	}
	s.Pool.Stop()
	if out, errs, code := s.Pool.CLI("ping"); code != 2 || errs == "" {
		t.Errorf("without pgagroal: exit %d, want 2 and a reason: %s%s", code, out, errs)
	}
}

func TestQuestionsAreAnsweredWhileAServerIsSilent(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers, proxies := pool.ViaProxies(t, c)
	s := pool.Play(t, c, pool.Plan{Servers: servers, Keys: pool.HastyKeys(map[string]string{"failover_probe_timeout": "60s", "health_check": "on", "health_check_period": "1s"})})
	s.Opened("n1")
	// A probe that is under way already would hang and be the last one for a minute.
	pgtest.WaitUntil(t, pool.Generous, "no probe to be under way", func() bool { return proxies[0].Connections() == 0 })
	for _, x := range proxies {
		x.Silence(pgtest.ToClient | pgtest.ToServer)
	}
	pgtest.WaitUntil(t, pool.Generous, "a probe that hangs", func() bool { return proxies[0].Connections() > 0 })
	begin := time.Now()
	for _, words := range [][]string{{"ping"}, {"status"}, {"status", "details"}, {"failover", "status"}, {"failover", "history"}} {
		if out, errs, code := s.Pool.CLI(words...); code != 0 {
			t.Errorf("%v: exit %d, %s%s", words, code, out, errs)
		}
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("five answers took %v while a probe hangs", d)
	}
}

func TestAnotherUserMayLookButNotTouch(t *testing.T) {
	t.Parallel()
	pool.RootOnly(t)
	s := pool.PlayOpen(t, 1, pool.Plan{})
	pool.Must(t, os.Chmod(s.Pool.Dir, 0o755))
	ask := func(words ...string) (string, int) {
		cmd := s.Pool.Command("pgagroal-cli", append([]string{"-c", s.Pool.Path("pgagroal.conf")}, words...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // the exit code tells
		return out.String(), cmd.ProcessState.ExitCode()
	}
	for _, words := range [][]string{{"ping"}, {"status"}, {"status", "details"}, {"failover", "status"}} {
		if out, code := ask(words...); code != 0 {
			t.Errorf("%v: exit %d, %s", words, code, out)
		}
	}
	for _, words := range [][]string{
		{"shutdown", "immediate"},
		{"shutdown", "gracefully"},
		{"switch-to", "n2", "--force"},
		{"clear", "server", "n1"},
		{"conf", "get", "port"},
		{"failover", "history"},
	} {
		if out, code := ask(words...); code == 0 || !strings.Contains(out, "not allowed") && !strings.Contains(out, "permission") && !strings.Contains(out, "may") {
			t.Errorf("%v: exit %d, want a refusal that says why: %s", words, code, out)
		}
	}
	if r := s.Pool.JSON("status"); r["Status"] != "Running" {
		t.Errorf("status %v, want Running", r["Status"])
	}
	s.Opened("n1")
}
