package primary

import (
	"bytes"
	"os"
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

// replacedIsBack is a scene after a failover to n2 whose pgagroal has ended: n2 is down, and n1, which was replaced, is
// the only server and writable.
func replacedIsBack(t *testing.T) *pool.Scene {
	t.Helper()
	s := pool.FailedOver(t, 1)
	s.Pool.Stop()
	pool.Must(t, s.Node(2).Kill())
	pool.Must(t, s.Node(1).Start(pool.Within(t)))
	return s
}

// cutShort truncates a file of state_dir to its first half, and returns that half.
func cutShort(t *testing.T, s *pool.Scene, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(s.Pool.Path("state/" + name))
	pool.Must(t, err)
	pool.WriteFile(t, s.Pool.Path("state/"+name), string(b[:len(b)/2]), 0o600)
	return b[:len(b)/2]
}

func TestADamagedStateFileIsKeptAndItsCopyUsed(t *testing.T) {
	t.Parallel()
	s := replacedIsBack(t)
	damaged := cutShort(t, s, "pgagroal.state")
	s.Pool.Restart()
	s.Held("New primary could not be found")
	s.Alarmed("pgagroal.state.copy is used instead")
	if got := s.Word("Primary"); got != "n2" || s.Epoch() != 2 {
		t.Errorf("the primary is %q in epoch %d, want n2 in 2", got, s.Epoch())
	}
	kept, err := os.ReadFile(s.Pool.Path("state/pgagroal.state.bad"))
	if err != nil || !bytes.Equal(kept, damaged) {
		t.Errorf("kept %q: %v", kept, err)
	}
	pool.Must(t, s.Node(2).Start(pool.Within(t)))
	s.Opened("n2")
}

func TestWithoutAnyStateFileThatCanBeReadAPersonNamesThePrimary(t *testing.T) {
	t.Parallel()
	s := replacedIsBack(t)
	cutShort(t, s, "pgagroal.state")
	cutShort(t, s, "pgagroal.state.copy")
	for range 2 { // a restart changes nothing
		s.Pool.Restart()
		s.Held("the state file was damaged")
		s.Seen("n1", "primary")
		s.Pool.Stop()
	}
	s.Pool.Restart()
	s.Held("the state file was damaged")
	s.Deny("n2 is not writable", "clear", "server", "n2")
	waiting := s.LogIn()
	pool.Must(t, s.Node(2).Start(pool.Within(t)))
	s.Seen("n2", "primary")
	s.Do("clear", "server", "n2")
	if got := pool.NodeOf(t, s.Served(waiting)); got != "n2" {
		t.Errorf("the held client is on %s, want n2", got)
	}
	s.Pool.WaitState("n1", "Failed (split brain)")
}
