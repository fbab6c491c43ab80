package takeover

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestScriptsMayLookAndDecideNothing has a failover script ask, a process that it
// leaves behind, and one that outlives the script and has lost its parents.
func TestScriptsMayLookAndDecideNothing(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(nil)})
	cli := pool.Program("pgagroal-cli") + " -c " + filepath.Join(s.Pool.Dir, "pgagroal.conf") + " "
	out := filepath.Join(s.Pool.Dir, "state", "asked")
	asks := func(who, command string) string {
		return cli + command + ">/dev/null 2>&1; echo " + who + " " + command + " $? >>" + out + "\n"
	}
	later := filepath.Join(s.Pool.Dir, "state", "later")
	orphan := "i=0; while [ ! -e " + later + " ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done\n" + asks("orphan", "failover pause") + asks("orphan", "ping")
	pool.WriteFile(t, filepath.Join(s.Pool.Dir, "hooks", "orphan.sh"), "#!/bin/sh\n"+orphan, 0o755)
	s.Failover = s.Pool.Hook("failover.sh", asks("script", "ping")+asks("script", "status")+asks("script", "failover status")+
		asks("script", "failover pause")+asks("script", "switch-to n1")+asks("script", "shutdown immediate")+
		"( setsid "+filepath.Join(s.Pool.Dir, "hooks", "orphan.sh")+" </dev/null >/dev/null 2>&1 & )\n"+pool.PromoteScript(c))
	s.Pool.Run()
	s.Opened("n1")
	s.Pool.WaitLog("script runner is ready")
	s.Pool.Connect()
	s.Kill(1)
	s.Opened("n2")
	pool.WriteFile(t, later, "", 0o644)
	var got string
	pgtest.WaitUntil(t, pool.Generous, "all to have asked", func() bool {
		b, err := os.ReadFile(out)
		got = string(b)
		return err == nil && strings.Contains(got, "orphan ping")
	}, func() string { return got }, s.Pool.Log)
	// pgagroal-cli ends with 1 for what was refused.
	want := "script ping 0\nscript status 0\nscript failover status 0\nscript failover pause 1\nscript switch-to n1 1\n" +
		"script shutdown immediate 1\norphan failover pause 1\norphan ping 0\n"
	if got != want {
		t.Errorf("exit codes of pgagroal-cli:\n%swant\n%s", got, want)
	}
	denied := func() int { return strings.Count(s.Pool.Log(), "control command denied") }
	pgtest.WaitUntil(t, pool.Generous, "the log to tell of four commands", func() bool { return denied() >= 4 }, s.Pool.Log)
	if n := denied(); n != 4 || !strings.Contains(s.Pool.Log(), "kin=script") {
		t.Errorf("%d commands were denied, want 4", n)
	}
	if _, errs, code := s.Pool.CLI("failover", "pause"); code != 0 {
		t.Errorf("an operator is refused: %s", errs)
	}
}
