package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// shownPage has the console ask for what the web page shows, and returns it.
func shownPage(t *testing.T, w *world, console *fakeChild, m *ipc.SnapshotRequest) (document []byte, history []*ipc.SnapshotHistory) {
	t.Helper()
	w.advance(snapshotPause)
	w.say(console, m)
	w.advance(0)
	w.statsOf(w.children[0], 1)
	for _, part := range messagesOf[*ipc.SnapshotDocument](console) {
		if part.ID == m.ID {
			document = append(document, part.Part...)
		}
	}
	for _, e := range messagesOf[*ipc.SnapshotHistory](console) {
		if e.ID == m.ID {
			history = append(history, e)
		}
	}
	ends := messagesOf[*ipc.SnapshotEnd](console)
	if len(ends) == 0 || ends[len(ends)-1].ID != m.ID {
		t.Fatal("the snapshot has no end")
	}
	return document, history
}

func TestTheWebPageShowsWhatTheCommandsShow(t *testing.T) {
	w, console := consoleUp(t, 1)
	w.machine.status.Phase = "held"
	w.machine.status.Servers[0].Reason = strings.Repeat("x", 2*documentPart)
	document, _ := shownPage(t, w, console, &ipc.SnapshotRequest{ID: 1, Page: true})
	var got control.ConsoleResponse
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := w.s.consoleResponse(w.machine.status)
	// An empty standby becomes an empty object, from which Readable can't be told.
	if diff := cmp.Diff(want.FailoverStatus, got.FailoverStatus); diff != "" {
		t.Errorf("failover status, -shown by the command +by the page:\n%s", diff)
	}
	status := w.s.statusResponse(&report{})
	if diff := cmp.Diff(status.Servers, got.Servers); diff != "" || got.Status != status.Status || got.MaxConnections != status.MaxConnections {
		t.Errorf("status, -shown by the command +by the page:\n%s", diff)
	}
	if document, history := shownPage(t, w, console, &ipc.SnapshotRequest{ID: 2}); document != nil || history != nil {
		t.Error("the page's part comes though nobody wants it")
	}
}

func TestTheWebPageGetsNewEntriesOfTheHistory(t *testing.T) {
	w, console := consoleUp(t, 1)
	exit := 1
	for i := range historyKept + 2 {
		w.s.record(failover.HistoryEntry{Kind: "failover", Reason: fmt.Sprint(i), RunID: "r", Args: []string{"pass=secret"}, Output: "secret", Exit: &exit})
	}
	_, all := shownPage(t, w, console, &ipc.SnapshotRequest{ID: 1, Page: true})
	if len(all) != historyKept || all[0].Index != 3 || all[len(all)-1].Index != historyKept+2 {
		t.Fatalf("%d entries", len(all))
	}
	for _, e := range all {
		if bytes.Contains(e.Entry, []byte("secret")) || !bytes.Contains(e.Entry, []byte(`"exit":1`)) {
			t.Fatalf("an entry shows what the script was told or has said, or lacks its end: %s", e.Entry)
		}
	}
	if _, none := shownPage(t, w, console, &ipc.SnapshotRequest{ID: 2, Page: true, History: historyKept + 2}); len(none) != 0 {
		t.Errorf("%d entries come again", len(none))
	}
	w.s.record(failover.HistoryEntry{Kind: "adopted", Reason: strings.Repeat("x", maxEntry)})
	w.s.record(failover.HistoryEntry{Kind: "reset"})
	_, two := shownPage(t, w, console, &ipc.SnapshotRequest{ID: 3, Page: true, History: historyKept + 2})
	if len(two) != 2 || string(two[0].Entry) != "{}" || !bytes.Contains(two[1].Entry, []byte(`"kind":"reset"`)) {
		t.Errorf("%d entries", len(two))
	}
}

// Phases of a failover may last less than the time between two snapshots.
func TestASnapshotShowsEveryPhaseSinceTheLastOne(t *testing.T) {
	w, console := consoleUp(t, 1)
	for _, phase := range []string{"suspect", "fencing", "choosing", "running", "verifying", "open"} {
		w.machine.status.Phase, w.machine.status.Reason = phase, "because of "+phase
		w.s.reasonChanged()
		w.now += time.Millisecond
	}
	w.snapshot(console, 1)
	begin := messagesOf[*ipc.SnapshotBegin](console)[0]
	changes := begin.Failover.Changes
	changes = changes[max(0, len(changes)-6):]
	var phases []string
	for i, c := range changes {
		phases = append(phases, c.Phase)
		if c.Reason != "because of "+c.Phase || i > 0 && c.WallMS < changes[i-1].WallMS || c.WallMS == 0 {
			t.Errorf("%+v", c)
		}
	}
	if !slices.Equal(phases, []string{"suspect", "fencing", "choosing", "running", "verifying", "open"}) {
		t.Errorf("phases %q", phases)
	}
	for i := range 2 * changesKept {
		w.s.console.figures.changed(w.s.env.wall(), fmt.Sprint(i), "")
	}
	if n := len(w.s.console.figures.changes); n != changesKept {
		t.Errorf("%d changes are kept", n)
	}
}
