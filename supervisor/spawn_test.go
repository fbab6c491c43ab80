package supervisor

import (
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// A worker that hangs leaves clients in its socket, in the hand of the writer and in the
// queue; when it is killed all of them come back, in their order.
func TestClientsOfAFullLinkComeBackInOrder(t *testing.T) {
	conn, theirs, err := ipc.Pair(ipc.RoleSupervisor, ipc.RoleWorker, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetPhase(ipc.PhaseRunning)
	const clients = 2000
	st := newStarted(conn, clients, quiet)
	st.keep(conn, theirs, slog.New(slog.DiscardHandler))
	defer st.close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for id := range uint64(clients) {
		fd, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.link.Send(&ipc.NewClient{ID: id}, fd); err != nil {
			t.Fatal(err)
		}
	}
	if st.link.Len() == 0 {
		t.Fatal("the socket has taken everything")
	}
	all := st.unread()
	for i, e := range all {
		if m, ok := e.Message.(*ipc.NewClient); !ok || m.ID != uint64(i) || len(e.FDs) != 1 {
			t.Errorf("message %d: %+v with %d descriptors", i, e.Message, len(e.FDs))
		}
		e.CloseFDs()
	}
	if len(all) != clients {
		t.Errorf("%d of %d clients come back", len(all), clients)
	}
}
