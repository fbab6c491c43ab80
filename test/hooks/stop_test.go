package hooks

import (
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// The first notify script would run for ten minutes, although its new primary is dead as
// well.
func TestANotifyScriptIsStoppedWhenItsNewPrimaryIsDeadToo(t *testing.T) {
	t.Parallel()
	s := pool.PlayOpen(t, 2, pool.Plan{Notify: `test ! -e "$0.once" || exit 0; touch "$0.once"; exec sleep 1000`})
	s.Kill(1)
	s.Notify.WaitRuns(1)
	next, last := s.Node(2), s.Node(3)
	if s.Word("Primary") == "n3" {
		next, last = last, next
	}
	pool.Must(t, last.Follow(pool.Within(t), next.Host, next.Port))
	pool.Must(t, last.WaitStreaming(pool.Within(t), next))
	pgtest.WaitUntil(t, pool.Generous, "status to show what "+last.Name+" streams from", func() bool {
		standbys, _ := s.Pool.JSON("status")["Standbys"].(map[string]any)
		sees, _ := standbys[last.Name].(map[string]any)
		return sees["Streaming"] == true && sees["PrimaryPort"] == fmt.Sprint(next.Port)
	}, func() string { return fmt.Sprint(s.Pool.JSON("status")) }, s.Pool.Log)
	s.Pool.Connect()
	pool.Must(t, next.Kill())
	pgtest.WaitUntil(t, pool.Generous, "the end of the first notify script", func() bool { return len(s.History("notify")) > 0 }, s.Pool.Log)
	if e := s.History("notify")[0]; e["signal"] != 15.0 || e["timed_out"] == true {
		t.Errorf("history: %v, want signal 15", e)
	}
	s.Opened(last.Name)
	s.Notify.WaitRuns(2)
}
