package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// minimal prepares the configuration that the manual calls the minimal one with
// failover.
func minimal(t *testing.T, c *pgtest.Cluster) *pool.Pool {
	t.Helper()
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"state_dir": "", "failover": "on"}})
	p.SetKey("failover_script", p.Hook("failover.sh", "exit 0").Path)
	return p
}

func TestTheMinimalConfigurationStarts(t *testing.T) {
	t.Parallel()
	p := minimal(t, pgtest.New(t, pgtest.Options{Standbys: 1}))
	made := p.Path(".local/state/pgagroal")
	pool.Succeed(t, p.Command("pgagroal", "-t", "-D", p.Dir))
	if _, err := os.Stat(made); err == nil {
		t.Error("-t has made the directory")
	}
	p.Run()
	p.Connect()
	info, err := os.Stat(made)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	p.WaitLog("used=" + made)
	if got := p.JSON("failover", "status")["StateDir"]; got != made {
		t.Errorf("status says %v, want %s", got, made)
	}
	for _, name := range []string{"pgagroal.state", "pgagroal.lock", "scriptrunner.runs"} {
		pgtest.WaitUntil(t, pool.Generous, name+" is there", func() bool {
			_, err := os.Stat(filepath.Join(made, name))
			return err == nil
		}, p.Log)
	}
}

func TestTheCheckSaysWhyAStateDirCannotBeUsed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	p := minimal(t, c)
	pool.WriteFile(t, p.Path(".local"), "in the way", 0o600)
	for _, flags := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
		if said := pool.WontStart(t, p.Command("pgagroal", flags...)); !strings.Contains(said, "state_dir") || !strings.Contains(said, "not a directory") {
			t.Errorf("%v says %q", flags, said)
		}
	}
	p.SetKey("state_dir", p.Path("state"))
	pool.Must(t, os.Chmod(p.Path("state"), 0o777))
	for _, flags := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
		if said := pool.WontStart(t, p.Command("pgagroal", flags...)); !strings.Contains(said, "can be written by others") ||
			!strings.Contains(said, p.Path("pgagroal.conf")+":") {
			t.Errorf("%v says %q", flags, said)
		}
	}
}

// TestASingleServerNeedsNoStateDir: containers often start with such a configuration.
func TestASingleServerNeedsNoStateDir(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, key := range []string{"", "/nonexistent/pgagroal"} {
		p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"state_dir": key}})
		p.Run("HOME=/nonexistent")
		pool.MustQuery(t, p.Connect(), "SELECT 1")
		status := p.JSON("failover", "status")
		if alarms := status["Alarms"].([]any); len(alarms) > 0 {
			t.Errorf("alarms %v", alarms)
		}
		if log := p.Log(); strings.Contains(log, " ERROR ") {
			t.Errorf("the log has an error:\n%s", log)
		}
	}
}
