package worker

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// All backends of a server are lost together: the supervisor hears of it once.
func TestHintOfATurnIsSentOnce(t *testing.T) {
	r := newRig(t, sessions())
	for turn := range 2 {
		r.do(func() {
			for range 1000 {
				r.w.hint(0, 1, ipc.HintReset, "", "read: connection reset")
				r.w.hint(0, 1, ipc.HintSQLState, "57P01", "session")
				r.w.hint(1, 1, ipc.HintReset, "", "read: connection reset")
			}
			r.w.send(&ipc.Pong{ID: uint64(turn)})
		})
	}
	hints := 0
	for {
		switch m := expectAny(r).(type) {
		case *ipc.Hint:
			hints++
		case *ipc.Pong:
			if hints != 3 {
				t.Errorf("%d hints in turn %d, not 3", hints, m.ID)
			}
			if hints = 0; m.ID == 1 {
				return
			}
		}
	}
}

func expectAny(r *rig) ipc.Message { return wait(r.t, r.msgs, "a message") }
