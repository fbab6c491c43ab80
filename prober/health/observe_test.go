package health

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// answers are what a standby says to each of details, in order.
func answers() [len(details)][][]string {
	return [...][][]string{
		{{"-1", "4", "5", "0/1A", "1500000"}},
		{{"streaming", "3", "10.0.0.1", "5432", "1500", "slot", "60000"}},
		{{"t", "", "", "1/FFFFFFFF", "2/A", "f", "0"}},
		{},
		{{"0"}},
		{{"f"}},
	}
}

func read(standby bool, a [len(details)][][]string) ipc.Observation {
	r := &reading{standby: standby}
	for i, d := range details {
		d.take(r, a[i])
	}
	return r.observation()
}

func TestAnswersBecomeAnObservation(t *testing.T) {
	base := ipc.Observation{
		SystemID: 1<<64 - 1, PostmasterStart: 1500000, Checkpoint: 26, Timeline: 5, ReceiveLSN: 2<<32 + 10, ReplayLSN: 2<<32 - 1, Receiver: ipc.ReceiverStreaming,
		ReceiverWord: "streaming", SlotName: "slot", SenderHost: "10.0.0.1", SenderPort: "5432", LastMsgAge: 1500 * time.Microsecond, LastMsgKnown: true, ReceiverTimeout: time.Minute,
	}
	none := func(o *ipc.Observation) {
		o.ReceiverWord, o.SlotName, o.SenderHost, o.SenderPort, o.LastMsgAge, o.LastMsgKnown, o.ReceiverTimeout = "", "", "", "", 0, false, 0
	}
	tests := []struct {
		name   string
		change func(*[len(details)][][]string)
		want   func(*ipc.Observation)
	}{
		{"all there", func(*[len(details)][][]string) {}, func(*ipc.Observation) {}},
		{"receives a newer timeline", func(a *[len(details)][][]string) { a[1][0][1] = "9" }, func(o *ipc.Observation) { o.Timeline = 9 }},
		{"receives a newer timeline from before what it has replayed", func(a *[len(details)][][]string) { a[1][0][1], a[2][0][4] = "9", "1/0" }, func(o *ipc.Observation) { o.ReceiveLSN = 1 << 32 }},
		{"receives a newer timeline up to what it has replayed", func(a *[len(details)][][]string) { a[1][0][1], a[2][0][4] = "9", "1/FFFFFFFF" }, func(o *ipc.Observation) { o.Timeline, o.ReceiveLSN = 9, 2<<32-1 }},
		{"nothing replayed beyond its checkpoint", func(a *[len(details)][][]string) { a[0][0] = []string{"-1", "7", "0", "0/1A", "1500000"} }, func(o *ipc.Observation) { o.Timeline = 7 }},
		{"paused", func(a *[len(details)][][]string) { a[2][0][5] = "t" }, func(o *ipc.Observation) { o.Paused = true }},
		{"delayed", func(a *[len(details)][][]string) { a[2][0][6] = "1h" }, func(o *ipc.Observation) { o.Paused = true }},
		{"no delay before 12", func(a *[len(details)][][]string) { a[2][0][6] = "" }, func(*ipc.Observation) {}},
		{"no sender before 11", func(a *[len(details)][][]string) { a[1][0][2], a[1][0][3] = "", "" }, func(o *ipc.Observation) { o.SenderHost, o.SenderPort = "", "" }},
		{"no message yet", func(a *[len(details)][][]string) { a[1][0][4] = "" }, func(o *ipc.Observation) { o.LastMsgAge, o.LastMsgKnown = 0, false }},
		{"no receiver", func(a *[len(details)][][]string) { a[1] = nil }, func(o *ipc.Observation) { none(o); o.Receiver = ipc.ReceiverGone }},
		{"receiver waits", func(a *[len(details)][][]string) { a[1][0][0] = "waiting"; a[1][0][1] = "9" }, func(o *ipc.Observation) {
			o.Receiver, o.ReceiverWord = ipc.ReceiverGone, "waiting"
		}},
		{"receiver hidden", func(a *[len(details)][][]string) { a[1][0] = []string{"", "", "", "", "", ""} }, func(o *ipc.Observation) { none(o); o.Receiver = ipc.ReceiverUnknown }},
		{"promoted between two answers", func(a *[len(details)][][]string) {
			a[2][0] = []string{"f", "2/0", "0000000600000000000000AB", "", "", "", "0"}
		}, func(o *ipc.Observation) {
			*o = ipc.Observation{SystemID: o.SystemID, PostmasterStart: 1500000, Checkpoint: 26, Timeline: 6, WriteLSN: 2 << 32}
		}},
		{"nonsense", func(a *[len(details)][][]string) {
			for i := range a {
				a[i] = [][]string{{"x", "-"}}
			}
			a[1] = [][]string{{}}
		}, func(o *ipc.Observation) { *o = ipc.Observation{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, want := answers(), base
			tt.change(&a)
			tt.want(&want)
			if diff := cmp.Diff(want, read(true, a)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStreamedTimelineCountsBeforeItsFirstRecord(t *testing.T) {
	r := &reading{standby: true, exactTimeline: 1, receivedTimeline: 2}
	if got := r.observation(); got.Timeline != 2 {
		t.Errorf("timeline %d, want 2", got.Timeline)
	}
}
