package runner

import (
	"os"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A script may break long after the start: a deployment takes its x bit away, or writes
// it anew with CR LF. The alarm comes by itself and ends with the repair. No command is
// needed for either.
func TestAScriptThatBreaksAtRunTimeIsAnAlarmUntilItIsMended(t *testing.T) {
	t.Parallel()
	var fence *pool.Hook
	s := pool.PlayOpen(t, 1, pool.Plan{Before: func(s *pool.Scene) {
		fence = s.Pool.Hook("fence.sh", "exit 0")
		s.Pool.SetKey("failover_fence_script", fence.Path)
	}})
	mend := []func(){keep(t, s.Failover), keep(t, s.Notify), keep(t, fence)}
	mended := func() {
		for _, f := range mend {
			f()
		}
		pgtest.WaitUntil(t, pool.Generous, "the alarms to end", func() bool { return !s.HasAlarm("can't run") }, s.Pool.Log)
	}
	pool.Must(t, os.Chmod(s.Notify.Path, 0o644))
	pool.Must(t, os.WriteFile(s.Failover.Path, []byte("#!/bin/sh\r\nexit 0\r\n"), 0o755))
	s.Alarmed("failover_notify_script can't run: the script " + s.Notify.Path + " has mode 0644")
	s.Alarmed("failover_script can't run: the lines of " + s.Failover.Path + " end with CR LF")
	mended()
	pool.Must(t, os.Remove(fence.Path))
	s.Alarmed("failover_fence_script can't run")
	mended()
	s.Kill(1)
	s.Opened("n2")
}

// keep returns a function that writes the script as it is now.
func keep(t *testing.T, h *pool.Hook) func() {
	t.Helper()
	text, err := os.ReadFile(h.Path)
	pool.Must(t, err)
	return func() { pool.WriteFile(t, h.Path, string(text), 0o755) }
}
