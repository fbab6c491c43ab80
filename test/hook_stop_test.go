package test

import (
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// The first notify script would go on for ten minutes, about a primary that is dead as well.
func TestANotifyScriptIsStoppedWhenItsNewPrimaryIsDeadToo(t *testing.T) {
	t.Parallel()
	s := contract(t, 2, plan{notify: `test ! -e "$0.once" || exit 0; touch "$0.once"; exec sleep 1000`})
	s.kill(1)
	s.notify.WaitRuns(1)
	next, last := s.node(2), s.node(3)
	if s.word("Primary") == "n3" {
		next, last = last, next
	}
	must(t, last.Follow(within(t), next.Host, next.Port))
	must(t, last.WaitStreaming(within(t), next))
	pgtest.WaitUntil(t, generous, "status to show what "+last.Name+" streams from", func() bool {
		standbys, _ := s.p.JSON("status")["Standbys"].(map[string]any)
		sees, _ := standbys[last.Name].(map[string]any)
		return sees["Streaming"] == true && sees["PrimaryPort"] == fmt.Sprint(next.Port)
	}, func() string { return fmt.Sprint(s.p.JSON("status")) }, s.p.Log)
	s.p.Connect()
	must(t, next.Kill())
	pgtest.WaitUntil(t, generous, "the end of the first notify script", func() bool { return len(s.history("notify")) > 0 }, s.p.Log)
	if e := s.history("notify")[0]; e["signal"] != 15.0 || e["timed_out"] == true {
		t.Errorf("history: %v, want signal 15", e)
	}
	s.opened(last.Name)
	s.notify.WaitRuns(2)
}
