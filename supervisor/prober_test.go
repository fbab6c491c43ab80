package supervisor

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// probeOnce has the machine ask for a probe of the first server.
func (w *world) probeOnce(id uint64) {
	w.act(failover.Probe{Server: 0, ID: id, Timeout: 2 * time.Second})
	w.settle()
}

// lastProbe is what the machine was told of a probe last.
func (w *world) lastProbe() failover.ProbeDone {
	w.t.Helper()
	got := eventsOf[failover.ProbeDone](w)
	if len(got) == 0 {
		w.t.Fatal("the machine was told nothing")
	}
	return got[len(got)-1]
}

func TestProberIsToldWhereServersAreBeforeItIsAsked(t *testing.T) {
	w := newWorld(t, 0, func(c *config.Config) { c.Servers[1].Host = "/run/x/" })
	w.probeOnce(1)
	got := sentTo[*ipc.ProberConfigure](w.prober)
	if len(got) != 1 || len(got[0].Ports) != 1 || got[0].Ports[0] != 5001 || len(got[0].SocketDirs) != 1 || got[0].SocketDirs[0] != "/run/x" {
		t.Fatalf("%+v", got)
	}
	if w.prober.sent[0] != ipc.Message(got[0]) {
		t.Error("a request came before the configuration")
	}
	if seen := w.lastProbe(); seen.ID != 1 || seen.Outcome != failover.SawRefused {
		t.Errorf("%+v", seen)
	}
}

// A probe that is under way when pgagroal ends has no result: nobody is alarmed by it.
func TestShutdownDuringAProbeIsNoFault(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	w.prober.mute = true
	w.probeOnce(1)
	w.s.shutNow()
	w.settle()
	if !w.prober.killed {
		t.Fatal("the prober is not ended")
	}
	w.prober.exited("signal: killed")
	w.settle()
	if got := eventsOf[failover.ProbeDone](w); len(got) != 0 {
		t.Errorf("the machine was told %+v", got)
	}
	if !w.s.over {
		t.Error("pgagroal doesn't end")
	}
}

// The death of the prober says nothing about a server, and another prober answers again.
func TestLooksOfADeadProberSayNothing(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	w.prober.mute = true
	w.settings = func(ipc.Target) (map[string]string, error) { return nil, nil }
	w.probeOnce(1)
	var rehearsed *control.RehearsalResponse
	w.s.rehearse(&rehearsal{Rehearsal: &failover.Rehearsal{}, done: func(r control.RehearsalResponse, _ error) { rehearsed = &r }})
	w.settle()
	first := w.prober
	first.ended(io.EOF)
	first.exited("exit status 2")
	w.settle()
	if seen := w.lastProbe(); seen.ID != 1 || seen.Outcome != failover.SawNoAddress || seen.Code != errProberEnded.Error() {
		t.Errorf("%+v", seen)
	}
	if rehearsed == nil {
		t.Error("the rehearsal waits for settings that never come")
	}
	w.advance(time.Millisecond)
	if w.prober == first || !first.closed {
		t.Fatal("no other prober was started")
	}
	w.probeOnce(2)
	if seen := w.lastProbe(); seen.ID != 2 || seen.Outcome != failover.SawRefused {
		t.Errorf("%+v", seen)
	}
}

func TestProberThatHangsIsKilledAndReplaced(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	first := w.prober
	first.mute = true
	w.probeOnce(1)
	w.advance(2*time.Second + lookGrace - time.Millisecond)
	if first.killed || len(eventsOf[failover.ProbeDone](w)) != 0 {
		t.Fatal("it had no time to answer")
	}
	w.advance(2 * time.Millisecond)
	if seen := w.lastProbe(); !first.killed || seen.Outcome != failover.SawNoAddress || w.prober == first {
		t.Errorf("killed: %v, %+v", first.killed, seen)
	}
}

// A server's answer may be what kills it, so it must not be restarted without pauses.
func TestProberThatDiesAgainAndAgainIsStartedMoreAndMoreSlowly(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	for _, pause := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		f := w.prober
		f.exited("exit status 2")
		w.settle()
		if pause > 0 {
			w.advance(pause - time.Millisecond)
			if w.prober != f {
				t.Fatalf("started again less than %v after its death", pause)
			}
		}
		w.advance(time.Millisecond)
		if w.prober == f {
			t.Fatalf("not started again %v after its death", pause)
		}
	}
	w.advance(restartStable)
	f := w.prober
	f.exited("exit status 2")
	w.advance(time.Millisecond)
	if w.prober == f {
		t.Error("the throttle stays after a minute of life")
	}
}

// A look that no prober takes fails, and says nothing about the server.
func TestLookWithoutAnyProberFailsInTime(t *testing.T) {
	w := newWorld(t, 0)
	w.startErr = errors.New("no memory")
	w.settle()
	w.probeOnce(1)
	w.advance(2*time.Second + lookGrace)
	if seen := w.lastProbe(); seen.Outcome != failover.SawNoAddress || seen.Code != errNoProber.Error() {
		t.Errorf("%+v", seen)
	}
	if n := len(w.s.servers.prober.looks.waiting); n != 0 {
		t.Errorf("%d looks wait for ever", n)
	}
}

func TestLooksAreBounded(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	w.prober.mute = true
	failed := 0
	for range ipc.MaxLooks + maxLooksWaiting + 3 {
		lookAt(w.s, time.Second, func(id uint64) ipc.Message { return &ipc.ProbeRequest{ID: id} },
			func(_ *ipc.ProbeDone, err error) {
				if errors.Is(err, errManyLooks) {
					failed++
				}
			})
	}
	w.advance(time.Millisecond)
	if n := len(sentTo[*ipc.ProbeRequest](w.prober)); n != ipc.MaxLooks || failed != 3 {
		t.Errorf("%d sent, %d refused", n, failed)
	}
	w.prober.message(&ipc.ProbeDone{ID: 1, Outcome: ipc.SawRefused})
	w.settle()
	if n := len(sentTo[*ipc.ProbeRequest](w.prober)); n != ipc.MaxLooks+1 {
		t.Errorf("%d sent after an answer", n)
	}
}

// A prober may have been taken over by a server.
func TestProberThatSaysWhatCannotBeIsKilled(t *testing.T) {
	long := string(make([]byte, ipc.MaxServerText+1))
	for name, m := range map[string]ipc.Message{
		"nobody asked":        &ipc.ProbeDone{ID: 99, Outcome: ipc.SawPrimary},
		"another answer":      &ipc.SettingsDone{ID: 1},
		"no outcome":          &ipc.ProbeDone{ID: 1},
		"a new outcome":       &ipc.ProbeDone{ID: 1, Outcome: ipc.SawShutdown + 1},
		"a new receiver":      &ipc.ProbeDone{ID: 1, Outcome: ipc.SawStandby, Obs: ipc.Observation{Receiver: 9}},
		"a long text":         &ipc.ProbeDone{ID: 1, Outcome: ipc.SawStandby, Obs: ipc.Observation{SlotName: long}},
		"a long code":         &ipc.ProbeDone{ID: 1, Outcome: ipc.SawAlive, Code: long},
		"too many standbys":   &ipc.ProbeDone{ID: 1, Outcome: ipc.SawPrimary, Obs: ipc.Observation{SyncStandbys: make([]string, 65)}},
		"a long standby":      &ipc.ProbeDone{ID: 1, Outcome: ipc.SawPrimary, Obs: ipc.Observation{SyncStandbys: []string{long}}},
		"ready twice":         &ipc.ProberReady{},
		"hello at a bad time": &ipc.ProberHello{Version: ipc.Version},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.settle()
			f := w.prober
			f.mute = true
			w.probeOnce(1)
			f.message(m)
			w.settle()
			if seen := w.lastProbe(); !f.killed || seen.Outcome != failover.SawNoAddress {
				t.Errorf("killed: %v, %+v", f.killed, seen)
			}
		})
	}
}

// Only an answer that shows a primary or a standby carries an observation.
func TestAnswerWithoutARoleCarriesNoObservation(t *testing.T) {
	w := newWorld(t, 0)
	w.settle()
	w.prober.mute = true
	w.probeOnce(1)
	w.prober.message(&ipc.ProbeDone{ID: 1, Outcome: ipc.SawRefused, Version: "1", Obs: ipc.Observation{SystemID: 7}})
	w.settle()
	if seen := w.lastProbe(); seen.Outcome != failover.SawRefused || seen.Obs.SystemID != 0 || seen.Version != "" {
		t.Errorf("%+v", seen)
	}
}

// The machine may look at servers until the end, so the prober is the last to go.
func TestProberIsTheLastToGo(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.s.shutNow()
	w.settle()
	if w.prober.killed || w.s.over {
		t.Fatal("the prober was ended before the worker")
	}
	w.die(w.children[0])
	if !w.prober.killed || !w.s.over {
		t.Errorf("killed: %v, over: %v", w.prober.killed, w.s.over)
	}
}
