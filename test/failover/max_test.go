package failover

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestAfterTheMostFailoversThereIsNoneUntilAReset(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{Keys: pool.HastyKeys(map[string]string{"failover_max": "1"})})
	first := filepath.Join(s.Pool.Dir, "hooks", "first")
	s.Failover = s.Pool.Hook("failover.sh", fmt.Sprintf("test -e %[1]s || { : > %[1]s; exit 1; }\n", first)+pool.PromoteScript(c))
	s.Pool.Run()
	s.Opened("n1")
	s.Kill(1)
	s.Held("failover_script ended with exit code 1")
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	s.Opened("n1") // the run has failed, and counts
	s.Pool.WaitState("n2", "Replica")
	s.Kill(1)
	s.Held("failover_max = 1")
	s.Alarmed("no failover until it is reset")
	pool.Says(t, s.Server("n1"), "EndedBy", "pgagroal-cli failover reset")
	pool.NeverWithin(t, time.Second, "a second run", func() bool { return len(s.Failover.Runs()) > 1 })
	if out, errs, code := s.Pool.CLI("failover", "reset"); code != 0 {
		t.Fatalf("failover reset: exit %d\n%s%s", code, out, errs)
	}
	s.Opened("n2")
	if s.HasAlarm("no failover until it is reset") {
		t.Error("the alarm is still there")
	}
	s.Notify.WaitRuns(1)
	s.Ran([][]string{pool.RunArgs(s.Node(1), s.Node(2)), pool.RunArgs(s.Node(1), s.Node(2))}, pool.OneRun(s.Node(1), s.Node(2)))
}
