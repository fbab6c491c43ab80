package worker

import (
	"slices"
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// A client whose socket found no free descriptor in this process is lost, and no other.
func TestClientWithoutADescriptorIsGone(t *testing.T) {
	r := newRig(t, ipc.ConfigBegin{Pipeline: "session", BlockingTimeoutMS: 30_000})
	r.do(func() { r.w.dispatch(ipc.Envelope{Message: &ipc.NewClient{ID: 7}}) })
	if gone := expect[*ipc.ClientsGone](r); !slices.Equal(gone.IDs, []uint64{7}) {
		t.Errorf("clients %d are gone, not 7", gone.IDs)
	}
	r.do(func() {
		if len(r.w.clients) != 0 {
			t.Error("the client is still counted")
		}
	})
}
