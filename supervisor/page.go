package supervisor

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const (
	// documentPart is the size of a part of the document in bytes, so that it fits into a packet.
	documentPart = 32 << 10
	// maxEntry bounds an entry of the history that the web page shows, in bytes.
	maxEntry = 48 << 10
	// changesKept is how many changes of the phase are kept, so that the page shows phases
	// that last less than the time between two snapshots.
	changesKept = 48
)

// pageNames returns the names in the key console_names.
func pageNames(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// pageItems is how many messages of one snapshot are for the web page.
func (s *supervisor) pageItems() int { return historyKept + 8 + len(s.cfg.Servers)/4 }

// snapshotPage sends what only the web page shows.
func (s *supervisor) snapshotPage(m *ipc.SnapshotRequest, st failover.Status, send func(ipc.Message)) {
	doc, err := control.Encode(s.consoleResponse(st))
	if err != nil {
		s.log.Error("the document of the web page can't be encoded", "error", err)
		return
	}
	for part := range slices.Chunk(doc, documentPart) {
		send(&ipc.SnapshotDocument{ID: m.ID, Part: part})
	}
	h := &s.history
	first := h.kept - uint64(len(h.entries)) + 1
	for i, line := range h.entries {
		if n := first + uint64(i); n > m.History {
			send(&ipc.SnapshotHistory{ID: m.ID, Index: n, Entry: shownEntry(line)})
		}
	}
}

// consoleResponse is what pgagroal-cli shows, without what only workers know: their
// figures reach the console by themselves.
func (s *supervisor) consoleResponse(st failover.Status) control.ConsoleResponse {
	d := s.statusResponse(&report{})
	why := s.notWritable(st)
	return control.ConsoleResponse{
		Status: d.Status, Writable: why == "", Reason: why, MaxConnections: d.MaxConnections, NumberOfServers: d.NumberOfServers,
		SplitBrain: d.SplitBrain, Servers: d.Servers, Standbys: d.Standbys, Databases: s.clients.disabled.list(),
		Confinement: d.Confinement, FailoverStatus: s.failoverStatus(),
	}
}

// shownEntry returns an entry of the history without the arguments and the output of its
// script: whoever wrote the script didn't write it for everybody who can reach a port.
func shownEntry(line json.RawMessage) []byte {
	var e failover.HistoryEntry
	if err := json.Unmarshal(line, &e); err != nil {
		return []byte("{}")
	}
	e.Output, e.Args = "", nil
	shown, err := json.Marshal(e)
	if err != nil || len(shown) > maxEntry {
		return []byte("{}")
	}
	return shown
}

// changed notes when the machine came into a phase, and why.
func (f *figures) changed(wall time.Time, phase, reason string) {
	f.changes = append(f.changes, ipc.PhaseChange{WallMS: wall.UnixMilli(), Phase: phase, Reason: reason})
	f.changes = f.changes[max(0, len(f.changes)-changesKept):]
}
