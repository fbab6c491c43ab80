package top

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the samples of these tests were taken.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func bytesOf(n int64) *int64 { return &n }

// calm has a primary, a standby, a standby of that, and a server that has failed.
func calm() sample {
	s := sample{at: noon, version: "9.9"}
	server := func(name, host, state string, behind *int64) control.Server {
		return control.Server{Server: name, Host: host, Port: 5432, State: state, Health: control.HealthUp, Behind: behind}
	}
	streaming := func(host string) control.Standby {
		return control.Standby{Readable: true, Streaming: true, WALReceiverStatus: "streaming", PrimaryHost: host, PrimaryPort: "5432"}
	}
	failed := server("orders4", "10.1.0.4", "Failed", nil)
	failed.Health = control.HealthDown
	s.details.StatusResponse = control.StatusResponse{
		Status: control.StatusRunning, ActiveConnections: 9, TotalConnections: 12, MaxConnections: 100,
		Servers: map[string]control.Server{
			"orders1": server("orders1", "10.1.0.1", "Primary", nil), "orders2": server("orders2", "10.1.0.2", "Replica", bytesOf(0)),
			"orders3": server("orders3", "10.1.0.3", "Replica", bytesOf(40<<20)), "orders4": failed,
			"orders5": server("orders5", "pg-orders-5.internal.eu-central-1.db.example.com", "Replica", bytesOf(123)),
		},
		Standbys: map[string]control.Standby{"orders2": streaming("another-name"), "orders3": streaming("10.1.0.2"), "orders5": {}},
	}
	for i := range 12 {
		c := control.Connection{State: "Active", Timestamp: noon.Unix() - int64(i*i*60), Database: "orders", Username: "app", AppName: "checkout\x1b[2J", Server: "orders1", Client: fmt.Sprintf("10.1.7.%d:50123", i+1), ID: uint64(i + 1)}
		switch {
		case i%4 == 0:
			c.State, c.Client, c.AppName = "Free", "", ""
		case i%5 == 0:
			c.State, c.Server = "Not initialized", ""
		case i%2 == 0:
			c.Database, c.Username, c.AppName = "reports", "analyst", "a report with a long name"
		}
		s.details.Connections = append(s.details.Connections, c)
	}
	s.details.Traffic = control.Traffic{Clients: 11, Waiting: 1}
	s.failover.FailoverSummary = control.FailoverSummary{Enabled: true, Phase: "open", Epoch: 3, Timeline: 2}
	return s
}

// failing is calm a moment after the death of the primary.
func failing() sample {
	s := calm()
	p := s.details.Servers["orders1"]
	p.Health, p.State = control.HealthDown, "Failover"
	s.details.Servers["orders1"] = p
	f := &s.failover
	f.Phase, f.Held, f.HeldReason, f.Reason = "running", true, "3 probes in a row: refused", "3 probes in a row: refused"
	f.Run = &control.FailoverRun{Hook: "failover", Elapsed: 2.5, Timeout: 60}
	for i := range 4 {
		f.Alarms = append(f.Alarms, fmt.Sprintf("orders%d: an alarm that needs an operator, with a text that is far longer than a screen of 80 columns", i+2))
	}
	return s
}

// viewed is a model that has seen the sample, with a minute of traffic before it.
func viewed(s sample, width, height int) *model {
	m := &model{screen: screen.Screen{Width: width}, height: height}
	at := s
	at.details.Traffic = control.Traffic{}
	for i := range 60 {
		at.at = s.at.Add(time.Duration(i-60) * time.Second)
		t := &at.details.Traffic
		n := uint64(1000 + 900*(i%20)/20)
		t.Queries += 5 * n
		t.Transactions += n
		t.Waits += n
		t.QuerySeconds += float64(5*n) * (0.0002 + 0.00001*float64(i%10))
		t.WaitSeconds += float64(n) * 0.00005
		t.Waiting = i % 3
		m.onSample(sampledMsg{sample: at})
	}
	t := at.details.Traffic
	t.Queries, t.Transactions, t.QuerySeconds = t.Queries+4321, t.Transactions+1234, t.QuerySeconds+1.5
	t.Clients, t.Waiting = 11, 1
	s.details.Traffic = t
	m.onSample(sampledMsg{sample: s})
	return m
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got)\n%s", name, d)
	}
}

func TestViewFillsItsScreen(t *testing.T) {
	for name, s := range map[string]sample{"calm": calm(), "failing": failing()} {
		for _, size := range [][2]int{{80, 24}, {200, 60}} {
			for list, of := range listNames {
				m := viewed(s, size[0], size[1])
				m.list = list
				got := m.draw()
				golden(t, fmt.Sprintf("%s-%s-%dx%d.txt", name, of, size[0], size[1]), got+"\n")
				fits(t, got, size[0], size[1])
			}
		}
	}
}

// fits checks that a screen has exactly its lines, none wider than it is.
func fits(t *testing.T, text string, width, height int) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if len(lines) != height {
		t.Errorf("%d lines on a screen of %d", len(lines), height)
	}
	for _, l := range lines {
		if w := screen.Width(l); w > width {
			t.Errorf("%d columns on a screen of %d: %s", w, width, l)
		}
	}
}

func TestNoScreenIsTooSmall(t *testing.T) {
	for _, width := range []int{1, 20, 40} {
		for _, height := range []int{1, 2, 5, 10} {
			if got := strings.Count(viewed(failing(), width, height).draw(), "\n"); got != height-1 {
				t.Errorf("%dx%d: %d lines", width, height, got+1)
			}
		}
	}
}

func TestOnceIsTheViewWithoutAnEnd(t *testing.T) {
	m := viewed(failing(), 0, 0)
	golden(t, "once.txt", m.text())
}

// press sends keys to the model, and returns what the last one leads to.
func press(m *model, keys ...string) tea.Cmd {
	var cmd tea.Cmd
	for _, k := range keys {
		cmd = m.onKey(k)
	}
	return cmd
}

func rowOf(t *testing.T, m *model, n int) string {
	t.Helper()
	rows := m.rows(m.list)
	if n >= len(rows) {
		t.Fatalf("only %d rows: %q", len(rows), rows)
	}
	return rows[n]
}

func TestKeysSortFilterAndScroll(t *testing.T) {
	m := viewed(calm(), 120, 24)
	if r := rowOf(t, m, 1); !strings.HasPrefix(r, "orders") {
		t.Errorf("by active: %s", r)
	}
	press(m, "r")
	if r := rowOf(t, m, 1); !strings.HasPrefix(r, "reports") {
		t.Errorf("reversed: %s", r)
	}
	press(m, "r", "s", "s", "s", "s") // by user
	if r := rowOf(t, m, 1); !strings.HasPrefix(r, "reports") {
		t.Errorf("by user: %s", r)
	}
	press(m, "tab")
	if r := rowOf(t, m, 1); !strings.Contains(r, "2h01m") {
		t.Errorf("the longest first: %s", r)
	}
	press(m, "/", "A", "n", "a", "x", "backspace", "l", "enter")
	for _, r := range m.rows(m.list)[1:] {
		if !strings.Contains(r, "analyst") {
			t.Errorf("not filtered: %s", r)
		}
	}
	if n := len(m.rows(m.list)); n < 2 || n > 6 {
		t.Errorf("%d rows pass the filter", n)
	}
	press(m, "/", "zzz")
	press(m, "/", "z", "z")
	if rows := m.rows(m.list); len(rows) != 1 || rows[0] != "no clients" {
		t.Errorf("%q", rows)
	}
	press(m, "esc", "esc", "down", "down")
	if m.filter != "" || m.skip != 2 {
		t.Errorf("filter %q, skip %d", m.filter, m.skip)
	}
	m.height = 60
	m.draw()
	if m.skip != 0 {
		t.Error("rows are scrolled away though there is room")
	}
}

// quits reports whether a command ends the program.
func quits(cmd tea.Cmd) bool {
	if cmd == nil {
		return false
	}
	_, ok := cmd().(tea.QuitMsg)
	return ok
}

func TestOrdersAskFirst(t *testing.T) {
	var ordered []string
	m := viewed(calm(), 80, 24)
	m.ask = func(command string, args map[string]string, r any) error {
		ordered = append(ordered, strings.TrimSpace(command+" "+args[control.ArgDatabase]))
		return json.Unmarshal([]byte(`{"Next": "it is paused"}`), r)
	}
	if cmd := press(m, "f"); cmd != nil || !strings.HasSuffix(m.draw(), "y/n") {
		t.Fatalf("no question:\n%s", m.draw())
	}
	if cmd := press(m, "q"); cmd != nil || len(ordered) > 0 || !strings.HasSuffix(m.draw(), "nothing was done") {
		t.Errorf("a no: ordered %q\n%s", ordered, m.draw())
	}
	_, _ = m.Update(press(m, "f", "y")())
	if len(ordered) != 1 || ordered[0] != control.FailoverPause || !strings.HasSuffix(m.draw(), "it is paused") {
		t.Errorf("a yes: ordered %q\n%s", ordered, m.draw())
	}
	_, _ = m.Update(press(m, "p", "y")())
	_, _ = m.Update(press(m, "u", "y")())
	if len(ordered) != 3 || ordered[1] != "pause all" || ordered[2] != "resume all" {
		t.Errorf("ordered %q", ordered)
	}
	m.last.failover.Paused = true
	m.ask = func(string, map[string]string, any) error { return errors.New("permission denied") }
	_, _ = m.Update(press(m, "f", "y")())
	if !strings.HasSuffix(m.draw(), "permission denied") {
		t.Errorf("a refusal isn't shown\n%s", m.draw())
	}
	if !quits(press(m, "q")) || !quits(press(m, "f", "ctrl+c")) {
		t.Error("q or ctrl+c doesn't end it")
	}
}

func TestOneQuestionAtATime(t *testing.T) {
	m := &model{ask: func(string, map[string]string, any) error { return errors.New("pgagroal can't be reached") }}
	cmd := m.sample()
	if m.sample() != nil {
		t.Error("a second question while the first is under way")
	}
	_, _ = m.Update(cmd())
	m.height, m.screen.Width = 24, 80
	if got := m.draw(); !strings.Contains(got, "! pgagroal can't be reached") {
		t.Errorf("the failure isn't shown:\n%s", got)
	}
	if m.sample() == nil {
		t.Error("no further question after a failure")
	}
	m.asking = false
	press(m, "space")
	_, cmd = m.Update(tickMsg(noon))
	if m.asking || cmd == nil {
		t.Error("held, it asks, or doesn't go on ticking")
	}
}

func TestAnOldAnswerIsSaidToBeOld(t *testing.T) {
	m := viewed(calm(), 80, 24)
	m.now = noon.Add(7 * time.Second)
	if got := m.title(); !strings.Contains(got, "of 12:00:00, 7.0s ago") {
		t.Error(got)
	}
}

func TestADeadWorkersFiguresAreNoFlood(t *testing.T) {
	var s series
	before, after := calm(), calm()
	after.at = noon.Add(time.Second)
	before.details.Traffic = control.Traffic{Queries: 1000, QuerySeconds: 10}
	after.details.Traffic = control.Traffic{Queries: 10, QuerySeconds: 1}
	s.add(before, after)
	if s.queries[0] != 0 || s.latency[0] != 0 {
		t.Errorf("%v queries a second, %v ms", s.queries[0], s.latency[0])
	}
	s.add(after, before) // the clock was set back
	for range 2 * seriesKept {
		s.add(before, after)
	}
	if len(s.queries) != seriesKept {
		t.Errorf("%d values are kept", len(s.queries))
	}
}

func TestARingOfStandbysIsShown(t *testing.T) {
	s := calm()
	for name, follows := range map[string]string{"orders2": "10.1.0.3", "orders3": "10.1.0.2"} {
		x := s.details.Standbys[name]
		x.PrimaryHost = follows
		s.details.Standbys[name] = x
	}
	text := strings.Join(viewed(s, 120, 24).servers(), "\n")
	for name := range s.details.Servers {
		if strings.Count(text, name+" ") != 1 {
			t.Errorf("%s isn't there once:\n%s", name, text)
		}
	}
}

// A client is picked by its id, because rows move while one looks for a key.
func TestAClientIsKickedAfterAQuestion(t *testing.T) {
	var ordered []string
	m := viewed(calm(), 80, 24)
	m.ask = func(command string, args map[string]string, r any) error {
		if r != nil {
			t.Error("kick has no response")
		}
		ordered = append(ordered, command+" "+args[control.ArgID])
		return nil
	}
	press(m, "x", "1", "x", "7", "backspace", "2")
	if m.list != listClients || m.pick != "12" {
		t.Errorf("list %d, picked %q", m.list, m.pick)
	}
	golden(t, "kick-pick-80x24.txt", m.draw())
	press(m, "enter")
	golden(t, "kick-question-80x24.txt", m.draw())
	if cmd := press(m, "n"); cmd != nil || len(ordered) > 0 {
		t.Errorf("a no: ordered %q", ordered)
	}
	_, _ = m.Update(press(m, "x", "1", "2", "enter", "y")())
	if len(ordered) != 1 || ordered[0] != "kick 12" || !strings.HasSuffix(m.draw(), "client 12 is disconnected") {
		t.Errorf("a yes: ordered %q\n%s", ordered, m.draw())
	}
	if press(m, "x", "9", "9", "enter"); m.question != nil || !strings.HasSuffix(m.draw(), "no client 99 has a connection or waits for one") {
		t.Errorf("a client that isn't there: %s", m.foot())
	}
	if press(m, "x", "0", "enter"); m.question != nil {
		t.Error("connections without a client are picked")
	}
	press(m, "x", "1", "esc", "enter")
	if m.picking || m.question != nil {
		t.Error("esc doesn't leave")
	}
	for range 2 * maxID {
		press(m, "x", "1")
		m.onPick("1")
	}
	if len(m.pick) > maxID {
		t.Errorf("%d digits", len(m.pick))
	}
}
