package operator

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

const monitorPassword = "rook-and-pawn"

// checked runs pgagroal-admin check on a set-up, and returns its findings.
func checked(t *testing.T, p *pool.Pool, want int) (found []map[string]any) {
	t.Helper()
	var document struct {
		Outcome  struct{ Status bool }
		Response struct{ Findings []map[string]any }
	}
	pool.Must(t, json.Unmarshal(checkOutput(t, p, want, "-F", "json"), &document))
	if document.Outcome.Status != (want == 0) {
		t.Errorf("Status %v with exit code %d", document.Outcome.Status, want)
	}
	return document.Response.Findings
}

func checkOutput(t *testing.T, p *pool.Pool, want int, args ...string) []byte {
	t.Helper()
	cmd := p.Command("pgagroal-admin", append([]string{"check", "-D", p.Dir, "-T", "15s"}, args...)...)
	out, err := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("exit %d, want %d: %v\n%s", code, want, err, out)
	}
	if strings.Contains(string(out), monitorPassword) {
		t.Errorf("a password is printed:\n%s", out)
	}
	return out
}

// has looks for a finding of that level and subject, with these words in its text or remedy.
func has(t *testing.T, found []map[string]any, level, about, words string) {
	t.Helper()
	for _, f := range found {
		if f["Level"] == level && f["About"] == about && strings.Contains(fmt.Sprint(f["Text"], " -> ", f["Do"]), words) {
			return
		}
	}
	t.Errorf("no %s about %s with %q in\n%v", level, about, words, found)
}

// TestCheckLooksASetUpOver plays a good set-up, then one with many mistakes, and at last two primaries. It needs no running pgagroal.
func TestCheckLooksASetUpOver(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{
		Standbys: 1, Extra: map[string]string{"wal_receiver_timeout": "10s", "wal_retrieve_retry_interval": "1s", "password_encryption": "scram-sha-256"},
		HBA: []string{"host all monitor 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"},
	})
	for _, sql := range []string{
		"CREATE ROLE monitor LOGIN PASSWORD '" + monitorPassword + "' IN ROLE pg_monitor", "CREATE ROLE plain LOGIN",
	} {
		if _, err := c.Nodes[0].Query(pool.Within(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	pool.Must(t, c.Nodes[1].WaitStreaming(pool.Within(t), c.Nodes[0]))
	pool.Must(t, c.Nodes[1].WaitReplay(pool.Within(t), c.Nodes[0]))
	keys := func(user string) map[string]string { return map[string]string{"health_check_user": user} }

	good := pool.Ready(t, c, pool.Plan{Keys: keys("monitor"), Users: map[string]string{"monitor": monitorPassword}}).Pool
	found := checked(t, good, 0)
	has(t, found, "ok", "files", "all rules hold")
	has(t, found, "ok", "server n1", "primary, PostgreSQL ")
	has(t, found, "ok", "server n2", "standby, PostgreSQL ")
	has(t, found, "ok", "server n1", "52 connections of pgagroal fit into the ")
	has(t, found, "note", "scripts", "doesn't declare that it knows PGAGROAL_CHECK")
	has(t, found, "note", "server n1", "a failover loses the transactions that the standby has not received")
	for _, f := range found {
		if f["Level"] == "warning" && f["About"] != "state_dir" { // the directory of tests may lie in memory
			t.Errorf("%v", f)
		}
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing, so whoever connects waits
	pool.Must(t, err)
	defer silent.Close()
	servers := append([]pool.Server{ // the mute one comes first, and doesn't delay the others
		{Name: "mute", Host: "127.0.0.1", Port: silent.Addr().(*net.TCPAddr).Port},
		{Name: "dead", Host: "127.0.0.1", Port: pgtest.Port(t)},
	}, pool.Nodes(c)...)
	servers[3].More = map[string]string{"primary": "on"}
	s := pool.Ready(t, c, pool.Plan{Servers: servers, Keys: map[string]string{"health_check_user": "plain", "max_connections": "300", "allow_unknown_users": "off"}})
	pool.Must(t, os.Chmod(s.Failover.Path, 0o644))
	pool.WriteFile(t, s.Pool.Path("pgagroal_hba.conf"), "host all all all scram-sha-256\nhost db app 10.0.0.0/8 trust\nhost db app all scram-sha-256\n", 0o644)
	found = checked(t, s.Pool, 1)
	has(t, found, "error", "files", "failover_script: the script "+s.Failover.Path+" has mode 0644")
	has(t, found, "error", "files", "plain has no entry in")
	has(t, found, "warning", "files", "never used: whoever fits this line fits line 1, which counts")
	has(t, found, "warning", "users", "app has no entry in the users file, and allow_unknown_users is off")
	has(t, found, "error", "server dead", "nothing listens there")
	has(t, found, "error", "server mute", "accepts connections and says nothing")
	has(t, found, "warning", "server n1", "GRANT pg_monitor TO \"plain\"")
	has(t, found, "warning", "server n2", "GRANT pg_monitor TO \"plain\"")
	has(t, found, "warning", "server n1", "pgagroal may open 302 connections, and it has ")
	has(t, found, "note", "server n2", "primary = on, and the primary is n1")

	wrong := pool.Ready(t, c, pool.Plan{Keys: keys("monitor"), Users: map[string]string{"monitor": monitorPassword + "!"}}).Pool
	found = checked(t, wrong, 1)
	has(t, found, "error", "server n1", "refuses the password of monitor (28P01)")
	text := string(checkOutput(t, wrong, 1))
	if first, _, _ := strings.Cut(text, "\n"); !strings.HasPrefix(first, "error    server n1 (127.0.0.1:") || !strings.Contains(text, " user edit -U monitor\n") {
		t.Errorf("the text doesn't begin with what is worst, or doesn't say what to do:\n%s", text)
	}

	pool.Must(t, c.Nodes[1].Promote(pool.Within(t)))
	found = checked(t, good, 1)
	has(t, found, "error", "servers", "n1 and n2 are all primaries (split brain)")
}
