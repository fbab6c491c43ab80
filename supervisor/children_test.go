package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

func TestChildrenGetTheLockAlsoWhenItIsTakenLater(t *testing.T) {
	w := newWorld(t, 1, withFailover)
	file, err := os.Create(filepath.Join(t.TempDir(), proc.LockName))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w.s.dir = statedir.Dir{Lock: file, Usable: true}
	w.s.startWorkers()
	w.s.linkRunner()
	w.settle()
	if len(w.children) != 2 {
		t.Fatalf("%d children", len(w.children))
	}
	for _, c := range w.children {
		if c.spec.lock != file {
			t.Errorf("%s has no part in the lock", c.spec.role)
		}
	}
}

func TestSetupGivesAWorkerEverythingInOrder(t *testing.T) {
	w := newWorld(t, 1, func(c *config.Config) {
		c.Users = []config.Credential{{Name: "u", Password: "p"}, {Name: "v", Password: "p2"}}
		c.FrontendUsers = []config.Credential{{Name: "v", Password: "shown"}}
		c.Superuser = &config.Credential{Name: "s", Password: "q"}
		c.HBA = []config.HBARule{{Type: "host", Database: config.Names{All: true}, User: config.Names{All: true}, Address: "all", Method: "all"}}
		c.Limits = []config.Limit{
			{Database: config.Named("d"), Aliases: []string{"a"}, User: config.Named("u"), MaxSize: 3},
			{Database: config.Names{All: true}, User: config.Named("u"), MaxSize: 3},
		}
	})
	w.s.publish(openAt(0, 1))
	w.s.startWorkers()
	w.settle()
	w.hello(w.children[0])
	var got []string
	for _, m := range w.children[0].sent {
		got = append(got, ipc.Name(m.Number()))
	}
	want := []string{
		"ConfigBegin", "ConfigServer", "ConfigServer", "ConfigUser", "ConfigUser", "ConfigUser", "ConfigUser", "ConfigHBA", "ConfigLimit", "ConfigLimit", "ConfigEnd", "ServerState",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	end := messagesOf[*ipc.ConfigEnd](w.children[0])[0]
	if end.Servers != 2 || end.Users != 4 || end.HBA != 1 || end.Limits != 2 {
		t.Errorf("counts %+v", end)
	}
	for i, u := range messagesOf[*ipc.ConfigUser](w.children[0]) {
		want := []struct {
			name               string
			password, verifier bool
		}{{"u", true, true}, {"v", true, false}, {"v", false, true}, {"s", false, false}}[i]
		if u.Name != want.name || u.Password != want.password || (u.Verifier != "") != want.verifier || u.Gen != end.Gen {
			t.Errorf("entry %d is %+v, want %+v", i, u, want)
		}
	}
}

func TestDeadWorkerComesBackAtOnceThenSlower(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	var pauses []time.Duration
	for range 7 {
		n, from := len(w.children), w.now
		w.die(w.children[n-1])
		for len(w.children) == n {
			w.advance(500 * time.Millisecond)
		}
		pauses = append(pauses, (w.now - from).Truncate(time.Second))
		w.hello(w.children[n])
	}
	want := []time.Duration{0, 1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Error(diff)
	}
}

func TestWorkerThatLivedLongComesBackAtOnce(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	for range 3 {
		w.die(w.children[len(w.children)-1])
		w.advance(restartMax)
		w.hello(w.children[len(w.children)-1])
	}
	last := w.children[len(w.children)-1]
	for passed := time.Duration(0); passed < restartStable; passed += pingInterval {
		w.say(last, &ipc.Pong{})
		w.advance(pingInterval)
	}
	n := len(w.children)
	w.die(last)
	w.advance(0)
	if len(w.children) != n+1 {
		t.Error("it was not started again at once")
	}
}

func TestSupervisorGivesUpWhenNoWorkerEverComesUp(t *testing.T) {
	w := newWorld(t, 2)
	w.startErr = errors.New("no such binary")
	w.s.startWorkers()
	w.advance(time.Minute)
	if !w.s.over || w.s.result == nil {
		t.Errorf("over %v, result %v", w.s.over, w.s.result)
	}
}

func TestLateFailuresNeverEndTheSupervisor(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.startErr = errors.New("no memory")
	w.die(w.children[0])
	w.advance(10 * time.Minute)
	if w.s.over || w.s.result != nil {
		t.Errorf("over %v, result %v", w.s.over, w.s.result)
	}
}

func TestWorkerThatIsNotReadyInTimeIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.s.startWorkers()
	w.advance(setupLimit - time.Millisecond)
	if w.children[0].killed {
		t.Error("killed too early")
	}
	w.advance(2 * time.Millisecond)
	if !w.children[0].killed {
		t.Error("not killed")
	}
}

func TestWorkerThatAnswersNoPingIsKilled(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	for range 5 {
		w.say(w.children[0], &ipc.Pong{})
		w.advance(pingInterval)
	}
	if w.children[0].killed || !w.children[1].killed {
		t.Errorf("killed: %v, %v", w.children[0].killed, w.children[1].killed)
	}
	if n := len(messagesOf[*ipc.Ping](w.children[0])); n != 5 {
		t.Errorf("%d pings", n)
	}
}

func TestProtocolViolationKillsAndRestarts(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.children[0].ended(&ipc.ViolationError{Number: 99, What: "no such message"})
	w.settle()
	if !w.children[0].killed {
		t.Fatal("not killed")
	}
	if len(w.children) != 1 {
		t.Fatal("restarted before its exit was seen")
	}
	w.die(w.children[0])
	w.advance(0)
	if len(w.children) != 2 {
		t.Error("not restarted")
	}
}

func TestWorkerOfAnotherVersionIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.s.startWorkers()
	w.settle()
	w.say(w.children[0], &ipc.WorkerHello{Version: ipc.Version + 1})
	if !w.children[0].killed || len(w.children[0].sent) != 0 {
		t.Errorf("killed %v, sent %v", w.children[0].killed, w.children[0].sent)
	}
}

func TestWorkerWhoseQueueIsFullIsKilled(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.children[0].full = true
	w.s.sendServerStates()
	if !w.children[0].killed {
		t.Error("not killed")
	}
}

func TestWhatADeadWorkerSaidIsNotHeard(t *testing.T) {
	w := newWorld(t, 1)
	w.up()
	w.s.killWorker(w.s.workers.slots[0].child, "test")
	w.say(w.children[0], &ipc.Hint{Server: 0, Kind: ipc.HintRefused})
	if n := len(w.machine.events); n != 0 {
		t.Errorf("%d events", n)
	}
}
