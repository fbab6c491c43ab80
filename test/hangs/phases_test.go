package hangs

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// phase is when something hangs.
type phase struct {
	name   string
	calm   bool // nothing else is wrong
	always bool // tested without -all
	keys   map[string]string
	script string       // of the hooks that waits: "failover", "notify", or "late" for a promotion after the script's end
	reach  func(*scene) // returns as soon as pgagroal is in the phase
	then   func(*scene) // comes right after the stop
}

// phases are all of them, in their order.
func phases() []phase {
	return []phase{
		{name: "none: the primary works", calm: true},
		before(),
		{
			name: "suspected", always: true, keys: map[string]string{"failover_probe_interval": "1s"},
			reach: func(s *scene) { s.dies(); s.in("suspect") },
		},
		// The other worker answers only when the process hangs.
		{
			name:  "fencing",
			reach: func(s *scene) { s.stopOther(); s.dies(); s.in("fencing") }, then: func(s *scene) { s.resumeOther() },
		},
		{
			name:  "choosing",
			reach: func(s *scene) { s.dies(); s.in("choosing") },
		},
		// The script promotes and ends while the process hangs.
		{
			name: "running the script", always: true, script: "failover",
			reach: func(s *scene) { s.dies(); s.Failover.WaitRuns(1) }, then: func(s *scene) { s.open() },
		},
		{
			name: "verifying", script: "late",
			reach: func(s *scene) { s.dies(); s.in("verifying") },
		},
		{
			name: "notifying", script: "notify",
			reach: func(s *scene) { s.dies(); s.Notify.WaitRuns(1) }, then: func(s *scene) { s.open() },
		},
	}
}

// before is a hang that begins before the primary dies.
func before() phase { return phase{name: "before the death", then: func(s *scene) { s.dies() }} }

// plan is the scene of a phase, and what opens the gate of its script.
func (p phase) plan(t *testing.T, c *pgtest.Cluster) (pl pool.Plan, open func()) {
	t.Helper()
	promote := pool.PromoteScript(c)
	switch p.script {
	case "failover":
		pl, open = pool.GatedPlan(t, c, nil)
	case "notify":
		pl, open = pool.GatedPlan(t, c, nil)
		wait, _, _ := strings.Cut(pl.Script, promote)
		pl.Notify, pl.Script = wait, promote
	case "late":
		pl.Script = "(sleep 3\n" + promote + ") >/dev/null 2>&1 &\nexit 0"
	}
	return pl, open
}

func (s *scene) dies() {
	s.T.Helper()
	pool.Must(s.T, s.Node(1).Kill())
}

// in waits until the log tells of a phase.
func (s *scene) in(name string) {
	s.T.Helper()
	pgtest.WaitUntil(s.T, patience, "the phase "+name, func() bool { return strings.Contains(s.Pool.Log(), "new="+name+" ") }, s.Pool.Log)
}

func (s *scene) stopOther() { s.signalOther(syscall.SIGSTOP) }

func (s *scene) resumeOther() { s.signalOther(syscall.SIGCONT) }

// signalOther signals the worker that is never the one to hang.
func (s *scene) signalOther(sig syscall.Signal) {
	s.T.Helper()
	pool.Must(s.T, syscall.Kill(s.Pool.Workers()[1], sig))
}

func TestThePageHasThePlaceOfTheTable(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash(page))
	pool.Must(t, err)
	if _, err := pool.ReplaceMarked(string(text), "hangs", ""); err != nil {
		t.Error(err)
	}
}
