package login

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// askingAll is a cluster whose servers ask everybody for a password.
func askingAll(t testing.TB, standbys int) *pgtest.Cluster {
	t.Helper()
	return pgtest.New(t, pgtest.Options{Standbys: standbys, HBA: []string{"host all all 127.0.0.1/32 scram-sha-256"}})
}

// TestANamedProbeUserThatCanNotLogInIsAnAlarmAndNobodyReplacesIt has a user of an application whose password is right,
// and a client that every server lets in: probes use neither.
func TestANamedProbeUserThatCanNotLogInIsAnAlarmAndNobodyReplacesIt(t *testing.T) {
	t.Parallel()
	c := askingAll(t, 1)
	pool.AskNode(t, c.Primary(), "CREATE ROLE monitor LOGIN PASSWORD 'right'; CREATE ROLE app LOGIN PASSWORD 'app'")
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Primary()))
	for name, k := range map[string]struct {
		users     map[string]string
		code, say string
	}{
		"wrong password": {map[string]string{"app": "app", "monitor": "wrong"}, "28P01", "user edit -U monitor"},
		"no entry":       {map[string]string{"app": "app"}, "nologin", "user add -U monitor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pool.Play(t, c, pool.Plan{Users: k.users, Keys: map[string]string{"health_check_user": "monitor"}})
			s.Seen("n1", "alive ("+k.code+")")
			s.Seen("n2", "alive ("+k.code+")")
			s.Pool.ConnectAs(s.Pool.Config("app", "app", "postgres")) // its role is seen by this login
			s.Pool.WaitState("n1", "Primary")
			s.Seen("n2", "alive ("+k.code+")")
			s.Pool.WaitLog("a probe can't log in, so the server's role comes from clients' logins server=n1 user=monitor code=" + k.code)
			status := s.Pool.JSON("failover", "status")
			for _, want := range []string{"probes can't log in as monitor", "n1 (" + k.code + "), n2 (" + k.code + ")", k.say} {
				pool.Says(t, status, "Alarms", want)
			}
			if strings.Contains(s.Pool.Log(), "pg_monitor") {
				t.Error("the log has a hint about pg_monitor, which says nothing about a login")
			}
			out, err := s.Pool.Command("pgagroal", "-t", "-D", s.Pool.Dir).CombinedOutput()
			refused := strings.Contains(string(out), "health_check_user: monitor has no entry in "+s.Pool.Path("pgagroal_users.conf"))
			if want := k.code == "nologin"; (err != nil) != want || refused != want {
				t.Errorf("-t: %v, %s", err, out)
			}
			if warned := strings.Contains(s.Pool.Log(), "health_check_user has no password"); warned != refused {
				t.Errorf("the start warned: %v, and -t refuses: %v", warned, refused)
			}
		})
	}
}

// TestTheConfigurationInTheReadmeWorksAsPrinted replaces only names, ports and directories that don't exist here.
func TestTheConfigurationInTheReadmeWorksAsPrinted(t *testing.T) {
	t.Parallel()
	c := askingAll(t, 2)
	sql := readmeBlock(t, "CREATE ROLE")
	for line := range strings.Lines(sql) {
		pool.AskNode(t, c.Primary(), strings.TrimSuffix(strings.TrimSpace(line), ";"))
	}
	pool.AskNode(t, c.Primary(), "CREATE ROLE app LOGIN PASSWORD 'app'")
	for _, n := range c.Nodes[1:] {
		pool.Must(t, n.WaitReplay(pool.Within(t), c.Primary()))
	}
	p := pool.Prepare(t, pool.Setup{})
	promote, follow := p.Hook("promote.sh", pool.PromoteScript(c)), p.Hook("follow.sh", "exit 0")
	account, err := user.Current()
	pool.Must(t, err)
	if cred := pool.ServingUser(t); cred != nil {
		account, err = user.LookupId(fmt.Sprint(cred.Uid))
		pool.Must(t, err)
	}
	replace := []string{
		"host = *", "host = 127.0.0.1", "port = 2345", fmt.Sprintf("port = %d", p.Port), "/run/pgagroal", p.Path("run"),
		"/var/lib/pgagroal", p.Path("state"), "\nuser = pgagroal", "\nuser = " + account.Username,
		"/etc/pgagroal/promote.sh", promote.Path, "/etc/pgagroal/follow.sh", follow.Path,
	}
	for i, n := range c.Nodes {
		section := fmt.Sprintf("host = pg%d.example.com\nport = ", i+1)
		replace = append(replace, section+"5432", fmt.Sprintf("host = %s\nport = %d", n.Host, n.Port))
	}
	conf := readmeBlock(t, "[pgagroal]")
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(conf, replace[i]) {
			t.Errorf("the configuration of the README has no %q", replace[i])
		}
	}
	pool.WriteFile(t, p.Path("pgagroal.conf"), strings.NewReplacer(replace...).Replace(conf), 0o644)
	pool.WriteFile(t, p.Path("pgagroal_hba.conf"), readmeBlock(t, "host all"), 0o644)
	_, password, _ := strings.Cut(sql, "PASSWORD '")
	password, _, _ = strings.Cut(password, "'")
	adminCommands(t, p, password)

	if out, err := p.Command("pgagroal", "-t", "-D", p.Dir).CombinedOutput(); err != nil {
		t.Errorf("-t: %v, %s", err, out)
	}
	pool.Must(t, os.Chmod(p.Path("state"), 0o750))
	p.Run()
	p.WaitState("pg1", "Primary")
	for _, name := range []string{"pg2", "pg3"} {
		p.WaitState(name, "Replica")
	}
	p.WaitLog("script runner is ready")
	pgtest.WaitUntil(t, pool.Generous, "a rehearsal without problems", func() bool {
		_, _, code := p.CLI("failover", "rehearse")
		return code == 0
	}, func() string { out, _, _ := p.CLI("failover", "rehearse"); return out }, p.Log)
	status := p.JSON("failover", "status")
	if alarms, _ := status["Alarms"].([]any); len(alarms) > 0 {
		t.Errorf("alarms %v", alarms)
	}
	if lines := p.Complaints(); len(lines) > 0 {
		t.Errorf("it starts with something to complain about: %s", lines)
	}
	for _, login := range [][2]string{{"app", "app"}, {"pgagroal", password}} {
		pool.MustQuery(t, p.ConnectAs(p.Config(login[0], login[1], "postgres")), "SELECT 1")
	}
}

// adminCommands types what the README says, as the serving user, and the password when it is asked for.
func adminCommands(t *testing.T, p *pool.Pool, password string) {
	t.Helper()
	for line := range strings.Lines(readmeBlock(t, "sudo -u pgagroal pgagroal-admin")) {
		words := strings.Fields(line)
		i := slices.Index(words, "pgagroal-admin")
		if i < 0 || words[0] != "sudo" {
			t.Fatalf("not a command of pgagroal-admin: %s", line)
		}
		cmd := p.Command("pgagroal-admin", append(words[i+1:], "-f", p.Path("pgagroal_users.conf"))...)
		cmd.Stdin = strings.NewReader(password + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v, %s", line, err, out)
		}
	}
}

// readmeBlock returns the block of README.md that begins with a text.
func readmeBlock(t *testing.T, start string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	pool.Must(t, err)
	for i, part := range strings.Split(string(data), "\n```") {
		if _, text, _ := strings.Cut(part, "\n"); i%2 == 1 && strings.HasPrefix(text, start) {
			return text + "\n"
		}
	}
	t.Fatalf("README.md has no block that begins with %q", start)
	return ""
}
