package test

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
)

func TestEveryQuestionIsAnsweredInTextAndJSON(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
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
		out, errs, code := s.p.CLI(tt.words...)
		if code != 0 || errs != "" || !strings.Contains(out, "Outcome:\n  Status: true\n") || !strings.Contains(out, "\n  "+tt.field) {
			t.Errorf("%v: exit %d, %s%s", tt.words, code, out, errs)
		}
		if r := s.p.JSON(tt.words...); r[tt.field] == nil {
			t.Errorf("%v in json has no %s but %v", tt.words, tt.field, slices.Sorted(maps.Keys(r)))
		}
	}
	for key, want := range map[string]string{
		"max_connections": "50", "pgagroal.max_connections": "50", "server.n1.port": fmt.Sprint(s.node(1).Port), "failover_kill_delay": "200ms",
	} {
		if out, errs, code := s.p.CLI("conf", "get", key); code != 0 || strings.TrimSpace(out) != want {
			t.Errorf("conf get %s: exit %d, %q%s; want %q", key, code, out, errs, want)
		}
	}
}

func TestWhatIsUnknownIsRefusedWithAnExitCode(t *testing.T) {
	t.Parallel()
	s := contract(t, 1, plan{})
	for _, words := range [][]string{
		{"switch-to", "n9"},
		{"clear", "server", "n9"},
		{"clear", "server", "n9", "--force"},
		{"conf", "get", "no_such_key"},
		{"no-such-command"},
		{"shutdown", "sometime"},
		{"shutdown", "cancel"},
	} {
		out, errs, code := s.p.CLI(words...)
		if code != 1 || errs == "" && !strings.Contains(out, "Status: false") {
			t.Errorf("%v: exit %d, %s%s; want 1 and a reason", words, code, out, errs)
		}
		if last := words[min(len(words)-1, 2)]; last == "n9" && !strings.Contains(out+errs, "n9") {
			t.Errorf("%v doesn't name the server: %s%s", words, out, errs)
		}
	}
	s.opened("n1")
	if got := at(t, s.p.Connect()); got != "n1" {
		t.Errorf("a client is on %s", got)
	}
}

func TestStatusDetailsListConnections(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := Start(t, Setup{Servers: nodes(c), Keys: map[string]string{"log_connections": "off"}})
	cfg := p.Config("postgres", "", "postgres")
	cl := p.ConnectAs(withParam(cfg, "application_name", "a ledger"))
	mustQuery(t, cl, "BEGIN")
	var got map[string]any
	pgtest.WaitUntil(t, generous, "one connection to be listed", func() bool {
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
	s := contract(t, 1, plan{keys: map[string]string{"failover": "off", "health_check": "on", "health_check_period": "1s"}})
	s.kill(1)
	s.alarmed("n1 does not answer")
	out, _, code := s.p.CLI("ping")
	if code != 3 || !strings.Contains(out, "Status: Down") {
		t.Errorf("exit %d, want 3:\n%s", code, out)
	}
	s.p.Stop()
	if out, errs, code := s.p.CLI("ping"); code != 2 || errs == "" {
		t.Errorf("without pgagroal: exit %d, want 2 and a reason: %s%s", code, out, errs)
	}
}

func TestQuestionsAreAnsweredWhileAServerIsSilent(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	servers, proxies := via(t, c)
	s := play(t, c, plan{servers: servers, keys: hasty(map[string]string{"failover_probe_timeout": "60s", "health_check": "on", "health_check_period": "1s"})})
	s.opened("n1")
	for _, x := range proxies {
		x.Silence(pgtest.ToClient | pgtest.ToServer)
	}
	before := proxies[0].Connections()
	pgtest.WaitUntil(t, generous, "a probe that hangs", func() bool { return proxies[0].Connections() > before })
	begin := time.Now()
	for _, words := range [][]string{{"ping"}, {"status"}, {"status", "details"}, {"failover", "status"}, {"failover", "history"}} {
		if out, errs, code := s.p.CLI(words...); code != 0 {
			t.Errorf("%v: exit %d, %s%s", words, code, out, errs)
		}
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("five answers took %v while a probe hangs", d)
	}
}

func TestAnotherUserMayLookButNotTouch(t *testing.T) {
	t.Parallel()
	rootOnly(t)
	s := contract(t, 1, plan{})
	must(t, os.Chmod(s.p.Dir, 0o755))
	ask := func(words ...string) (string, int) {
		cmd := s.p.Command("pgagroal-cli", append([]string{"-c", s.p.path("pgagroal.conf")}, words...)...)
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
	if r := s.p.JSON("status"); r["Status"] != "Running" {
		t.Errorf("status %v, want Running", r["Status"])
	}
	s.opened("n1")
}
