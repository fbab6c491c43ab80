package supervisor

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestAPartThatTheKernelLacksIsAWarningOnceAndInStatus(t *testing.T) {
	w := newWorld(t, 3)
	var log bytes.Buffer
	w.s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.s.startWorkers()
	w.settle()
	for i, f := range slices.Clone(w.children) {
		f.message(&ipc.WorkerHello{Version: ipc.Version})
		done := &ipc.ConfigDone{Gen: 1, Confined: []string{"system calls"}, Unconfined: []string{"TCP ports (no)"}}
		if i == 2 {
			done.Unconfined = append(done.Unconfined, "files (no)")
		}
		f.message(done)
		w.settle()
	}
	for _, part := range []string{"TCP ports (no)", "files (no)"} {
		if n := strings.Count(log.String(), part); n != 1 {
			t.Errorf("%d warnings of %s, want 1:\n%s", n, part, log.String())
		}
	}
	got := w.s.confinement()
	if !slices.Equal(got.InForce, []string{"system calls"}) || !slices.Equal(got.Lacking, []string{"TCP ports (no)", "files (no)"}) {
		t.Errorf("status shows %+v", got)
	}
}

// What the workers lack, the prober lacks too: one warning is enough. What it lacks beyond
// them is shown as its own.
func TestAPartThatTheProberLacksIsShown(t *testing.T) {
	w := newWorld(t, 0)
	var log bytes.Buffer
	w.s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.s.workers.confined = confinement{inForce: []string{"a"}, lacking: []string{"b"}}
	w.s.noteConfinement(&w.s.servers.prober.confined, "prober", nil, []string{"b", "c"})
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "lacking=c") {
		t.Errorf("warnings: %s", log.String())
	}
	if got := w.s.confinement(); !slices.Equal(got.Lacking, []string{"b", "prober: c"}) {
		t.Errorf("status shows %+v", got)
	}
}
