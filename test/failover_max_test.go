package test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

func TestAfterTheMostFailoversThereIsNoneUntilAReset(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := ready(t, c, plan{keys: hasty(map[string]string{"failover_max": "1"})})
	first := filepath.Join(s.p.Dir, "hooks", "first")
	s.failover = s.p.hook("failover.sh", fmt.Sprintf("test -e %[1]s || { : > %[1]s; exit 1; }\n", first)+promote(c))
	s.p.Run()
	s.opened("n1")
	s.kill(1)
	s.held("failover_script ended with exit code 1")
	must(t, s.node(1).Start(within(t)))
	s.opened("n1") // the run has failed, and counts
	s.p.WaitState("n2", "Replica")
	s.kill(1)
	s.held("failover_max = 1")
	s.alarmed("no failover until it is reset")
	says(t, s.server("n1"), "EndedBy", "pgagroal-cli failover reset")
	neverWithin(t, time.Second, "a second run", func() bool { return len(s.failover.Runs()) > 1 })
	if out, errs, code := s.p.CLI("failover", "reset"); code != 0 {
		t.Fatalf("failover reset: exit %d\n%s%s", code, out, errs)
	}
	s.opened("n2")
	if s.hasAlarm("no failover until it is reset") {
		t.Error("the alarm is still there")
	}
	s.notify.WaitRuns(1)
	s.ran([][]string{args(s.node(1), s.node(2)), args(s.node(1), s.node(2))}, one(s.node(1), s.node(2)))
}
