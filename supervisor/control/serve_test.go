package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

func TestEveryCommandReachesItsMethod(t *testing.T) {
	tests := []struct {
		command string
		args    map[string]string
		want    string
		request map[string]any
	}{
		{"ping", nil, "ping", map[string]any{}},
		{"status", nil, "status", map[string]any{}},
		{"status-details", nil, "status details", map[string]any{}},
		{"failover-status", nil, "failover status", map[string]any{}},
		{"failover-history", nil, "failover history 0", map[string]any{}},
		{"failover-history", map[string]string{"count": "3"}, "failover history 3", map[string]any{"Count": 3.0}},
		{"conf-ls", nil, "conf ls", map[string]any{}},
		{"conf-get", nil, "conf get", map[string]any{}},
		{"conf-get", map[string]string{"key": "port"}, "conf get port", map[string]any{"ConfigKey": "port"}},
		{"conf-set", map[string]string{"key": "port", "value": ""}, "conf set port  false", map[string]any{"ConfigKey": "port", "ConfigValue": ""}},
		{"conf-set", map[string]string{"key": "port", "value": "1", "persist": "true"}, "conf set port 1 true", map[string]any{"ConfigKey": "port", "ConfigValue": "1", "Persist": true}},
		{"conf-reset", map[string]string{"key": "all"}, "conf reset all", map[string]any{"ConfigKey": "all"}},
		{"conf-alias", nil, "conf alias", map[string]any{}},
		{"reload", nil, "conf reload", map[string]any{}},
		{"shutdown-gracefully", nil, "shutdown gracefully default", map[string]any{"Timeout": -1.0}},
		{"shutdown-gracefully", map[string]string{"timeout": "0"}, "shutdown gracefully 0s", map[string]any{"Timeout": 0.0}},
		{"shutdown-gracefully", map[string]string{"timeout": "90"}, "shutdown gracefully 1m30s", map[string]any{"Timeout": 90.0}},
		{"shutdown", nil, "shutdown immediate default", map[string]any{}},
		{"cancel-shutdown", nil, "shutdown cancel default", map[string]any{}},
		{"failover-rehearse", nil, "failover rehearse", map[string]any{}},
		{"failover-pause", nil, "failover pause  false", map[string]any{}},
		{"failover-resume", nil, "failover resume  false", map[string]any{}},
		{"failover-reset", nil, "failover reset  false", map[string]any{}},
		{"failover-trigger", map[string]string{"server": "two", "force": "true"}, "failover trigger two true", map[string]any{"Server": "two", "Force": true}},
		{"switch-to", map[string]string{"server": "two"}, "switch-to two false default", map[string]any{"Server": "two"}},
		{"switch-to", map[string]string{"server": "two", "timeout": "70"}, "switch-to two false 1m10s", map[string]any{"Server": "two", "Timeout": 70.0}},
		{"enable-db", map[string]string{"database": "shop"}, "database shop false", map[string]any{"Database": "shop"}},
		{"disable-db", map[string]string{"database": "all"}, "database all true", map[string]any{"Database": "all"}},
		{"flush", map[string]string{"mode": "gracefully", "database": "all"}, "flush gracefully all default", map[string]any{"Database": "all", "Mode": 1.0, "Timeout": -1.0}},
		{"flush", map[string]string{"mode": "all", "database": "shop", "timeout": "5"}, "flush all shop 5s", map[string]any{"Database": "shop", "Mode": 2.0, "Timeout": 5.0}},
		{"flush", map[string]string{"mode": "idle", "database": "shop"}, "flush idle shop default", map[string]any{"Database": "shop", "Mode": 0.0, "Timeout": -1.0}},
		{"pause", map[string]string{"database": "all", "timeout": "5"}, "pause /all 5s", map[string]any{"Database": "all", "Timeout": 5.0}},
		{"pause", map[string]string{"server": "one"}, "pause one/ default", map[string]any{"Server": "one"}},
		{"resume", map[string]string{"database": "shop"}, "resume /shop", map[string]any{"Database": "shop"}},
		{"clients", nil, "clients", map[string]any{}},
		{"servers", nil, "servers", map[string]any{}},
		{"pools", nil, "pools", map[string]any{}},
		{"kick", map[string]string{"id": "7"}, "kick 7", map[string]any{"ID": 7.0}},
		{"kick", map[string]string{"id": "4503599627370497"}, "kick 4503599627370497", map[string]any{"ID": 4503599627370497.0}},
		{"worker-recycle", map[string]string{"worker": "all"}, "recycle all", map[string]any{"Worker": "all"}},
		{"events", nil, "events 0 - false", map[string]any{}},
		{"events", map[string]string{"count": "7"}, "events 7 - false", map[string]any{"Count": 7.0}},
		{"events", map[string]string{"after": "0", "follow": "true"}, "events 0 0 true", map[string]any{"After": 0.0, "Follow": true}},
		{"clear", nil, "clear figures", map[string]any{}},
		{"upgrade", nil, "upgrade", map[string]any{}},
		{"clear-server", map[string]string{"server": "one", "force": "true"}, "clear one true", map[string]any{"Server": "one", "Force": true}},
	}
	sup := &fake{}
	h := serve(t, sup, Options{})
	tried := map[string]bool{}
	for _, tt := range tests {
		tried[tt.command] = true
		got := h.ask(t, tt.command, tt.args)
		if calls := sup.seen(); calls[len(calls)-1] != tt.want {
			t.Errorf("%s %v called %q, want %q", tt.command, tt.args, calls[len(calls)-1], tt.want)
		}
		if d := cmp.Diff(tt.request, got.doc["Request"]); d != "" {
			t.Errorf("%s: Request (-want +got)\n%s", tt.command, d)
		}
		if got.outcome()["Status"] != true || got.last.Code != 0 {
			t.Errorf("%s: outcome %v", tt.command, got.outcome())
		}
	}
	for _, c := range control.Commands {
		if !tried[c.Name] || handlers[c.Name].run == nil {
			t.Errorf("%s isn't tested, or has no handler", c.Name)
		}
	}
	if len(handlers) != len(control.Commands) {
		t.Errorf("%d handlers for %d commands", len(handlers), len(control.Commands))
	}
}

func TestDocumentHasTheShapeOfPgagroal(t *testing.T) {
	now := time.Date(2026, 7, 9, 8, 7, 6, 0, time.Local)
	h := serve(t, &fake{}, Options{Now: func() time.Time { return now }})
	got := h.ask(t, "status", map[string]string{"client_version": "1.2", "output": "json"})
	want := map[string]any{
		"Header": map[string]any{
			"ClientVersion": "1.2", "Command": "status", "Compression": "none", "Encryption": "none",
			"Output": "json", "Timestamp": "20260709080706",
		},
		"Request": map[string]any{},
		"Response": map[string]any{
			"ServerVersion": "9.9", "Status": "Running",
			"ActiveConnections": 0.0, "TotalConnections": 0.0, "MaxConnections": 0.0, "NumberOfServers": 0.0,
			"Servers": map[string]any{},
			"Standbys": map[string]any{
				"two":   map[string]any{"Streaming": false, "WALReceiverStatus": "streaming", "SlotName": "", "PrimaryHost": "", "PrimaryPort": ""},
				"three": map[string]any{},
			},
			"Failover":    map[string]any{"Enabled": false, "Phase": "", "Epoch": 0.0, "Held": false, "Paused": false, "Alarms": []any{}},
			"Confinement": map[string]any{"InForce": []any{}, "Lacking": []any{}},
		},
		"Outcome": map[string]any{"Status": true, "Time": "00:00:00"},
	}
	if d := cmp.Diff(want, got.doc); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestFailureHasNumberAndMessageAndNoResponse(t *testing.T) {
	h := serve(t, &fake{fail: fmt.Errorf("switch-to nine: %w", ErrUnknownServer)}, Options{})
	for command, code := range map[string]int{"switch-to": control.CodeSwitchTo, "clear-server": control.CodeClearServer} {
		got := h.ask(t, command, map[string]string{"server": "nine"})
		want := map[string]any{"Status": false, "Error": float64(code), "Message": "switch-to nine: no such server"}
		if d := cmp.Diff(want, got.outcome()); d != "" {
			t.Errorf("%s (-want +got)\n%s", command, d)
		}
		if got.last.Code != code || got.last.Error == "" || got.doc["Response"] != nil {
			t.Errorf("%s: code %d, error %q, response %v", command, got.last.Code, got.last.Error, got.doc["Response"])
		}
	}
	if got := h.ask(t, "ping", nil); got.doc["Response"] != nil {
		t.Errorf("a failed ping has the response %v", got.doc["Response"])
	}
}

func TestBadRequestsNeverReachTheSupervisor(t *testing.T) {
	tests := []struct {
		name string
		req  ipc.ControlRequest
		code int
	}{
		{"unknown command", ipc.ControlRequest{Version: ipc.Version, Command: "format"}, control.CodeUnknownCommand},
		{"no command", ipc.ControlRequest{Version: ipc.Version}, control.CodeUnknownCommand},
		{"other version", ipc.ControlRequest{Version: ipc.Version + 1, Command: "ping"}, control.CodeVersion},
		{"argument of another command", ipc.ControlRequest{Version: ipc.Version, Command: "ping", Args: map[string]string{"server": "a"}}, control.CodeBadRequest},
		{"no server", ipc.ControlRequest{Version: ipc.Version, Command: "switch-to"}, control.CodeBadRequest},
		{"bad force", ipc.ControlRequest{Version: ipc.Version, Command: "switch-to", Args: map[string]string{"server": "a", "force": "1"}}, control.CodeBadRequest},
		{"negative timeout", ipc.ControlRequest{Version: ipc.Version, Command: "shutdown-gracefully", Args: map[string]string{"timeout": "-1"}}, control.CodeBadRequest},
		{"huge timeout", ipc.ControlRequest{Version: ipc.Version, Command: "shutdown-gracefully", Args: map[string]string{"timeout": "4294967296"}}, control.CodeBadRequest},
		{"empty count", ipc.ControlRequest{Version: ipc.Version, Command: "failover-history", Args: map[string]string{"count": ""}}, control.CodeBadRequest},
	}
	sup := &fake{}
	h := serve(t, sup, Options{})
	for _, tt := range tests {
		got, err := h.send(t, &tt.req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got.last.Code != tt.code || got.outcome()["Status"] != false {
			t.Errorf("%s: code %d, outcome %v, want %d", tt.name, got.last.Code, got.outcome(), tt.code)
		}
	}
	if calls := sup.seen(); len(calls) > 0 {
		t.Errorf("the supervisor saw %q", calls)
	}
}

func TestStrangersMayOnlyLook(t *testing.T) {
	allowed := []string{"ping", "status", "status-details", "failover-status"}
	sup := &fake{}
	h := serve(t, sup, Options{})
	h.uid.Store(stranger)
	for _, c := range control.Commands {
		a := map[string]string{}
		if slices.Contains(c.Args, "server") {
			a["server"] = "one"
		}
		if slices.Contains(c.Args, "database") {
			a["database"] = "one"
		}
		if slices.Contains(c.Args, "key") {
			a["key"] = "port"
		}
		if slices.Contains(c.Args, "value") {
			a["value"] = "1"
		}
		if slices.Contains(c.Args, "id") {
			a["id"] = "7"
		}
		if slices.Contains(c.Args, "worker") {
			a["worker"] = "all"
		}
		if slices.Contains(c.Args, "mode") {
			a["mode"] = "idle"
		}
		before := len(sup.seen())
		got := h.ask(t, c.Name, a)
		want := 0
		if !slices.Contains(allowed, c.Name) {
			want = control.CodePermission
		}
		if got.last.Code != want {
			t.Errorf("%s: code %d, want %d", c.Name, got.last.Code, want)
		}
		if ran := len(sup.seen()) > before; ran != (want == 0) {
			t.Errorf("%s: ran is %t", c.Name, ran)
		}
	}
}

// mayAsk returns those of all commands that are answered to a peer of this kin.
func mayAsk(t *testing.T, kin func() (Kin, error)) []string {
	t.Helper()
	sup := &fake{}
	h := serve(t, sup, Options{Kin: func(context.Context, *ipc.Conn) (Kin, error) { return kin() }})
	var answered []string
	for _, c := range control.Commands {
		a := map[string]string{}
		if slices.Contains(c.Args, "server") {
			a["server"] = "one"
		}
		if slices.Contains(c.Args, "database") {
			a["database"] = "one"
		}
		if slices.Contains(c.Args, "key") {
			a["key"] = "port"
		}
		if slices.Contains(c.Args, "value") {
			a["value"] = "1"
		}
		if slices.Contains(c.Args, "id") {
			a["id"] = "7"
		}
		if slices.Contains(c.Args, "worker") {
			a["worker"] = "all"
		}
		if slices.Contains(c.Args, "mode") {
			a["mode"] = "idle"
		}
		before := len(sup.seen())
		got := h.ask(t, c.Name, a)
		switch ran := len(sup.seen()) > before; {
		case ran != (got.last.Code != control.CodePermission):
			t.Errorf("%s: code %d, and ran is %t", c.Name, got.last.Code, ran)
		case ran:
			answered = append(answered, c.Name)
		}
	}
	return answered
}

func TestScriptsMayLookAndDecideNothing(t *testing.T) {
	want := []string{"ping", "status", "status-details", "failover-status"}
	for name, kin := range map[string]func() (Kin, error){
		"a script":                       func() (Kin, error) { return Script, nil },
		"a process that can't be judged": func() (Kin, error) { return Stranger, errors.New("it has ended") },
	} {
		if d := cmp.Diff(want, mayAsk(t, kin)); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}

func TestChildrenAreAnsweredNothing(t *testing.T) {
	if got := mayAsk(t, func() (Kin, error) { return Child, nil }); len(got) > 0 {
		t.Errorf("a child is answered %q", got)
	}
	if got := mayAsk(t, func() (Kin, error) { return Stranger, nil }); len(got) != len(control.Commands) {
		t.Errorf("an operator is answered %q", got)
	}
}

func TestRootAndOwnerMayDoEverything(t *testing.T) {
	for _, tt := range []struct {
		uid, self uint32
		want      bool
	}{
		{0, 70, true},
		{70, 70, true},
		{71, 70, false},
		{70, 0, false},
		{0, 0, true},
	} {
		if got := owner.allows(peer{uid: tt.uid}, tt.self); got != tt.want {
			t.Errorf("owner.allows(%d, %d) is %t", tt.uid, tt.self, got)
		}
		if !anyone.allows(peer{uid: tt.uid}, tt.self) {
			t.Errorf("anyone.allows(%d, %d) is false", tt.uid, tt.self)
		}
	}
}

func TestKernelNamesTheUser(t *testing.T) {
	var got uint32
	seen := make(chan error, 1)
	h := serve(t, &fake{}, Options{PeerUID: func(c *ipc.Conn) (uint32, error) {
		uid, err := kernelUID(c)
		got = uid
		seen <- err
		return uid, err
	}})
	h.ask(t, "conf-ls", nil)
	if err := <-seen; err != nil || got != uint32(os.Geteuid()) {
		t.Errorf("uid %d, error %v, want %d", got, err, os.Geteuid())
	}
}

func TestLargeAnswerComesInPieces(t *testing.T) {
	const size = 1 << 20
	h := serve(t, &fake{history: size}, Options{})
	got := h.ask(t, "failover-history", nil)
	entry := got.doc["Response"].(map[string]any)["History"].([]any)[0].(map[string]any)
	if n := len(entry["reason"].(string)); n != size {
		t.Errorf("%d bytes arrived, want %d", n, size)
	}
	if want := size/control.PieceSize + 1; got.pieces != want {
		t.Errorf("%d pieces, want %d", got.pieces, want)
	}
}

func TestShutdownIsAnsweredAlthoughItEndsTheServer(t *testing.T) {
	sup := &fake{}
	h := serve(t, sup, Options{})
	silent := h.dial(t)
	sup.mu.Lock()
	sup.onShutdown = func() {
		h.stop()
		_, _ = silent.Read(make([]byte, 1)) // its end says that the server is closing
	}
	sup.mu.Unlock()
	got := h.ask(t, "shutdown", nil)
	if got.outcome()["Status"] != true {
		t.Errorf("outcome %v", got.outcome())
	}
	h.end(t)
}

func TestEndOfServerEndsACommandThatWaits(t *testing.T) {
	sup := &fake{block: true}
	h := serve(t, sup, Options{})
	conn := ipc.NewConn(h.dial(t), ipc.RoleControl, ipc.RoleSupervisor, nil)
	if err := conn.Send(&ipc.ControlRequest{Version: ipc.Version, Command: "switch-to", Args: map[string]string{"server": "a"}}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return len(sup.seen()) == 1 })
	h.end(t)
	got, err := read(conn)
	if err != nil || got.last.Code != control.CodeSwitchTo {
		t.Errorf("answer %v, error %v", got.doc, err)
	}
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for !condition() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the condition never held")
		}
	}
}

func TestSupervisorErrorsAreShownAsTheyAre(t *testing.T) {
	h := serve(t, &fake{fail: errors.New("a run is going on")}, Options{})
	if got := h.ask(t, "clear-server", map[string]string{"server": "x"}); got.outcome()["Message"] != "a run is going on" {
		t.Errorf("outcome %v", got.outcome())
	}
}
