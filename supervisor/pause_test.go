package supervisor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// paused is the answer to a pause, if there is one.
type paused struct {
	there bool
	control.PauseResponse
	err string
}

func (w *world) pause(database string, limit time.Duration) *paused {
	got := &paused{}
	w.s.startPause(controlsocket.PauseOrder{Database: database, Timeout: &limit}, func(r control.PauseResponse, err error) {
		if got.there {
			w.t.Error("it is answered twice")
		}
		got.there, got.PauseResponse = true, r
		if err != nil {
			got.err = err.Error()
		}
	})
	w.settle()
	return got
}

func (w *world) resume(database string) (string, error) {
	r, err := w.s.resumeBy(controlsocket.PauseOrder{Database: database})
	w.settle()
	return r.Next, err
}

// holds returns what a worker was told last about paused clients.
func holds(f *fakeChild) (all bool, databases []string) {
	states := messagesOf[*ipc.ServerState](f)
	last := states[len(states)-1]
	return last.HoldAll, last.Hold
}

// pausedInMachine returns whether the machine believes that all clients are paused.
func pausedInMachine(w *world) bool {
	all := eventsOf[failover.ClientsPaused](w)
	return len(all) > 0 && all[len(all)-1].All
}

func TestPauseIsAnsweredWhenNoConnectionIsLeft(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	lease := w.lease(f, key("u"))
	got := w.pause("all", time.Minute)
	if all, _ := holds(f); !all || got.there || !pausedInMachine(w) {
		t.Errorf("the worker holds all: %t, answered: %t", all, got.there)
	}
	if again := w.pause("*", time.Minute); !strings.Contains(again.err, "another command") {
		t.Errorf("a second pause: %+v", again)
	}
	w.say(f, &ipc.LeaseReturn{Lease: lease})
	if !got.there || got.err != "" || !strings.Contains(got.Next, "pause_timeout, 5m0s") {
		t.Errorf("answer: %+v", got)
	}
	if again := w.pause("all", time.Minute); again.err != "" || again.Next != "they were paused already" {
		t.Errorf("a further pause: %+v", again)
	}
	if next, err := w.resume("all"); err != nil || next != "clients go on" {
		t.Errorf("%s, %v", next, err)
	}
	if all, _ := holds(f); all || pausedInMachine(w) {
		t.Error("the pause isn't over")
	}
	if next, err := w.resume("all"); err != nil || next != "nothing was paused" {
		t.Errorf("%s, %v", next, err)
	}
}

// Otherwise a script that gives up after a failed pause would leave all clients waiting.
func TestPauseIsTakenBackAtItsLimit(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	lease := w.lease(f, key("u"))
	got := w.pause("all", time.Second)
	w.live(time.Second)
	asked := messagesOf[*ipc.ReportRequest](f)
	if len(asked) != 1 || got.there {
		t.Fatalf("%d reports are asked for, answered: %t", len(asked), got.there)
	}
	w.say(f, &ipc.Report{ID: asked[0].ID})
	w.say(f, &ipc.ReportSession{ID: asked[0].ID, Lease: lease, State: "in_use", Database: "d", User: "u", Client: "192.0.2.7", PID: 42})
	w.say(f, &ipc.ReportEnd{ID: asked[0].ID})
	if want := "not paused, clients go on: after 1s 1 connections are in use: u@d from 192.0.2.7, server process 42, Active"; got.err != want {
		t.Errorf("answer: %q, want %q", got.err, want)
	}
	if all, _ := holds(f); all || pausedInMachine(w) {
		t.Error("clients still wait")
	}
}

// The clients that a shutdown waits for must be able to finish.
func TestGracefulShutdownEndsAllPauses(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	f := w.children[0]
	w.lease(f, key("u"))
	waits := w.pause("all", time.Minute)
	w.pause("other", time.Minute)
	w.s.letNobodyIn(time.Minute)
	w.settle()
	if all, databases := holds(f); all || len(databases) > 0 || pausedInMachine(w) {
		t.Errorf("still paused: %t, %v", all, databases)
	}
	if !strings.Contains(waits.err, "shutting down") {
		t.Errorf("the command that waits is told %q", waits.err)
	}
}

func TestForgottenPauseEnds(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) { c.PauseTimeout = time.Minute })
	w.up()
	w.pause("all", time.Second)
	w.live(59 * time.Second)
	if all, _ := holds(w.children[0]); !all {
		t.Error("the pause has ended too early")
	}
	w.live(2 * time.Second)
	if all, _ := holds(w.children[0]); all || pausedInMachine(w) {
		t.Error("clients wait for ever")
	}
}

func TestPauseOfADatabaseIsOfItsClientsAlone(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Limits = []config.Limit{{Database: config.Named("shop"), User: config.Names{All: true}, MaxSize: 2, Aliases: []string{"nick"}}}
	})
	w.up()
	f := w.children[0]
	w.lease(f, key("u"))
	if got := w.pause("nick", time.Second); got.err != "" || got.Paused != "shop" {
		t.Errorf("%+v", got)
	}
	all, databases := holds(f)
	if all || cmp.Diff([]string{"shop"}, databases) != "" || pausedInMachine(w) {
		t.Errorf("all: %t, databases: %v", all, databases)
	}
	w.pause("other", time.Second)
	if _, err := w.resume("third"); err != nil {
		t.Error(err)
	}
	if _, err := w.resume("all"); err != nil {
		t.Error(err)
	}
	if _, databases := holds(f); len(databases) != 0 {
		t.Errorf("still paused: %v", databases)
	}
}

func TestPauseIsRefusedWhereItWouldMeanNothing(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.machine.status.Primary = 0
	for server, why := range map[string]string{"nine": "no such server", "two": "two is not the primary"} {
		w.s.startPause(controlsocket.PauseOrder{Server: server}, func(_ control.PauseResponse, err error) {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("server %s: %v", server, err)
			}
		})
	}
	if got := w.pause("one", time.Second); !strings.Contains(got.err, "one is a server") {
		t.Errorf("%+v", got)
	}
	w.s.publish(failover.Snapshot{Gen: 2, Epoch: 1, Primary: 0, Servers: make([]failover.ServerView, 2)})
	if got := w.pause("all", time.Second); !strings.Contains(got.err, "clients are held already") {
		t.Errorf("%+v", got)
	}
}

// While all clients are paused the servers may be down, which is no answer to a look-up.
func TestLookUpsWaitForTheEndOfAPause(t *testing.T) {
	w := lookUpWorld(t)
	w.pause("all", time.Second)
	w.children[0].message(storedOf("u", 5000))
	w.settle()
	if asked := w.addressesAsked(); len(asked) != 0 {
		t.Errorf("asked: %v", asked)
	}
	w.live(time.Second)
	if _, err := w.resume("all"); err != nil {
		t.Error(err)
	}
	if asked := w.addressesAsked(); len(asked) != 1 {
		t.Errorf("asked after the pause: %v", asked)
	}
	w.pause("all", time.Second)
	w.children[0].message(storedOf("v", 500))
	w.live(time.Second)
	got := messagesOf[*ipc.StoredAnswer](w.children[0])
	if len(got) != 2 || got[1].Error != errLookUpLate.Error() {
		t.Errorf("answers: %v", got)
	}
}

// An operator who sees paused pools must know whether one can be resumed alone.
func TestPoolsSayWhetherAllDatabasesArePausedTogether(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	for _, tt := range []struct {
		database string
		together bool
	}{{"shop", false}, {everyDatabase, true}} {
		w.pause(tt.database, time.Minute)
		if r := w.s.poolsResponse(&report{}); r.AllPaused != tt.together {
			t.Errorf("%s is paused: AllPaused is %v", tt.database, r.AllPaused)
		}
		if _, err := w.resume("shop"); (err != nil) != tt.together {
			t.Errorf("%s is paused: resume shop answers %v", tt.database, err)
		}
	}
}

// Otherwise an operator who has interrupted a pause leaves all clients waiting.
func TestAnInterruptedPauseIsTakenBack(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	lease := w.lease(w.children[0], key("u"))
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := operator{w.s}.Pause(ctx, controlsocket.PauseOrder{Database: "all"})
		ended <- err
	}()
	(<-w.s.calls)()
	w.settle()
	if all, _ := holds(w.children[0]); !all {
		t.Fatal("clients aren't paused")
	}
	interrupt()
	(<-w.s.calls)()
	w.settle()
	if all, _ := holds(w.children[0]); all || pausedInMachine(w) {
		t.Error("clients still wait")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the command ends with %v", err)
	}
	another := w.pause("all", time.Minute)
	w.s.pauseInterrupted(nil) // a command that has begun none
	w.say(w.children[0], &ipc.LeaseReturn{Lease: lease})
	if all, _ := holds(w.children[0]); !all || another.err != "" {
		t.Errorf("another pause has ended: %+v", another)
	}
}

func TestPauseTimeoutBoundsTheWaitForWork(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) { c.PauseTimeout = time.Second })
	w.up()
	w.lease(w.children[0], key("u"))
	got := w.pause("all", time.Hour)
	w.live(time.Second)
	asked := messagesOf[*ipc.ReportRequest](w.children[0])
	if len(asked) != 1 {
		t.Fatal("it still waits for work")
	}
	w.say(w.children[0], &ipc.Report{ID: asked[0].ID})
	w.say(w.children[0], &ipc.ReportEnd{ID: asked[0].ID})
	if all, _ := holds(w.children[0]); all || !strings.Contains(got.err, "after 1s") {
		t.Errorf("clients wait: %t, answer %+v", all, got)
	}
}

// The sessions of look-ups keep PostgreSQL from a smart shutdown, and a database from being renamed.
func TestAPauseClosesTheSessionsOfLookUps(t *testing.T) {
	w := lookUpWorld(t, func(c *config.Config) { c.AuthQueryDatabase = config.ClientsDatabase })
	ask := func(id uint64, database string) {
		m := storedOf("u", 5000)
		m.ID, m.Database = id, database
		w.children[0].message(m)
	}
	w.refusing = []string{"127.0.0.1:5001", "127.0.0.2:5002"} // as after a LookUpStop
	ask(1, "shop")
	w.s.dispatch(<-w.s.inbox)
	w.pause("shop", time.Minute)
	var stopped []int
	for _, m := range sentTo[*ipc.LookUpStop](w.prober) {
		stopped = append(stopped, m.Server)
	}
	if d := cmp.Diff([]int{0, 1}, stopped); d != "" {
		t.Errorf("sessions at these servers are closed (-want +got)\n%s", d)
	}
	before := len(w.addressesAsked())
	w.refusing = nil
	ask(2, "shop")
	ask(3, "other")
	w.settle()
	if asked := sentTo[*ipc.LookUpRequest](w.prober)[before:]; len(asked) != 1 || asked[0].Target.Logins[0].Database != "other" {
		t.Errorf("asked during the pause: %v", asked)
	}
	if _, err := w.resume("shop"); err != nil {
		t.Fatal(err)
	}
	if got := messagesOf[*ipc.StoredAnswer](w.children[0]); len(got) != 3 {
		t.Errorf("answers after the pause: %v", got)
	}
}
