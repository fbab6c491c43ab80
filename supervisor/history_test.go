package supervisor

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

func TestHistoryEntryHasItsTime(t *testing.T) {
	w := newWorld(t, 0)
	w.s.record(failover.HistoryEntry{Kind: "failover"})
	var e failover.HistoryEntry
	if err := json.Unmarshal(w.s.history.entries[0], &e); err != nil || !e.Wall.Equal(w.s.env.wall()) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestHistoryInMemoryIsBounded(t *testing.T) {
	var h history
	for i := range historyKept + 5 {
		h.keep(json.RawMessage(fmt.Sprintf("{\"n\":%d}", i)))
	}
	if len(h.entries) != historyKept || string(h.entries[0]) != `{"n":5}` {
		t.Errorf("%d entries from %s", len(h.entries), h.entries[0])
	}
}
