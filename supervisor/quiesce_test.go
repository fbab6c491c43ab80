package supervisor

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func TestTransactionsOfAllWorkersAreCounted(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.Quiesce{Epoch: 3})
	if d := cmp.Diff([]*ipc.Quiesce{{ID: 1, Epoch: 3}}, messagesOf[*ipc.Quiesce](w.children[0])); d != "" {
		t.Error(d)
	}
	for _, i := range []int{0, 0, 1} {
		w.letIn(w.children[i])
	}
	w.say(w.children[0], &ipc.Quiesced{ID: 1, Busy: 2})
	w.say(w.children[0], &ipc.Quiesced{ID: 1, Busy: 2}) // a second answer doesn't count
	w.say(w.children[1], &ipc.Quiesced{ID: 7, Busy: 9}) // of no question
	if n := len(eventsOf[failover.Quiesced](w)); n != 0 {
		t.Fatal("answered without worker 1")
	}
	w.say(w.children[1], &ipc.Quiesced{ID: 1, Busy: 1})
	if d := cmp.Diff([]failover.Quiesced{{Epoch: 3, Busy: 3}}, eventsOf[failover.Quiesced](w)); d != "" {
		t.Error(d)
	}
}

func TestAWorkerThatDoesNotCountItsTransactionsIsBusyAndADeadOneIsNot(t *testing.T) {
	w := newWorld(t, 2)
	w.up()
	w.act(failover.Quiesce{Epoch: 3})
	w.say(w.children[0], &ipc.Quiesced{ID: 1})
	w.advance(quiesceLimit + time.Millisecond)
	w.act(failover.Quiesce{Epoch: 3})
	w.say(w.children[0], &ipc.Quiesced{ID: 2})
	w.die(w.children[1])
	if d := cmp.Diff([]failover.Quiesced{{Epoch: 3, Busy: 1}, {Epoch: 3}}, eventsOf[failover.Quiesced](w)); d != "" {
		t.Error(d)
	}
}
