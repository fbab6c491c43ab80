package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func pingView(p *page, a *answer, r *control.PingResponse) {
	if r.Writable {
		p.says(screen.Good, fmt.Sprintf("pgagroal %s answers, and clients can write.", a.version()))
	} else {
		p.says(screen.Strong, fmt.Sprintf("pgagroal %s answers.", a.version()))
		p.alarm(screen.Bad, "clients can't write: "+r.Reason)
		p.suggest("pgagroal-cli failover status", "what pgagroal waits for, and what ends it")
	}
	t := screen.Table{Columns: []screen.Column{{Title: "SERVER"}, {Title: "STATUS"}, {Title: "PRIMARY"}, {Title: "ADDRESS", Spare: 1, Least: addressWidth}, {Title: "BEHIND", Right: true}}}
	for _, name := range slices.Sorted(maps.Keys(r.Servers)) {
		s := r.Servers[name]
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: name}, {Text: s.Status, Colour: colourOf(s.Status)}, {Text: s.Primary}, {Text: address(s.Host, s.Port)}, {Text: behindText(s.Behind, nil)},
		}})
	}
	p.table("", t)
}

func statusView(p *page, a *answer, r *control.StatusResponse) {
	statusHead(p, a, r)
	p.table("", serversTable(r))
	statusFoot(p, r)
	if len(p.next) > 0 {
		return
	}
	p.suggest("pgagroal-cli status details", "limits and connections")
	if r.Failover.Enabled {
		p.suggest("pgagroal-cli failover rehearse", "would a failover go well?")
	}
}

func detailsView(p *page, a *answer, r *control.StatusDetailsResponse) {
	statusHead(p, a, &r.StatusResponse)
	p.table("", serversTable(&r.StatusResponse))
	statusFoot(p, &r.StatusResponse)
	p.table("Limits", limitsTable(r.Limits))
	p.table("Databases", databasesTable(r.Databases))
	p.table("Connections", connectionsTable(r.Connections, a.at()))
}

// stateWidth is that of the longest state with its qualifier.
const stateWidth = 22

// addressWidth is that of an IPv4 address with its port.
const addressWidth = 21

// calmPhase is the phase of the failover in which clients are served and nothing is
// suspected.
const calmPhase = "open"

// statusHead says what is going on, and what is wrong.
func statusHead(p *page, a *answer, r *control.StatusResponse) {
	primary, failed := "", false
	for name, s := range r.Servers {
		if s.State == "Primary" {
			primary = name
		}
		failed = failed || s.State == "Failed"
	}
	colour, where := screen.Good, "primary "+primary
	if primary == "" {
		where = "no primary"
	}
	down := primary != "" && r.Servers[primary].Health == control.HealthDown
	if primary == "" || down || failed || len(r.Failover.Alarms) > 0 || r.Failover.Held {
		colour = screen.Strong
	}
	p.says(colour, fmt.Sprintf("pgagroal %s: %s, %s, %d of %d connections active", a.version(), strings.ToLower(r.Status), where, r.ActiveConnections, r.MaxConnections))
	if r.Shutdown != nil {
		p.alarm(screen.Worry, r.Shutdown.Next)
		suggestShutdown(p, r.Shutdown)
	}
	if down {
		p.alarm(screen.Bad, primary+", the primary, doesn't answer")
	}
	failoverAlarms(p, r.Failover)
	if failed {
		p.suggest("pgagroal-cli failover status", "what ends the state Failed")
	}
	if r.SplitBrain != "" {
		p.suggest("pgagroal-cli failover history", "how it came to a split brain")
	}
}

// failoverAlarms says what is wrong with the failover.
func failoverAlarms(p *page, f control.FailoverSummary) {
	held := ""
	switch {
	case f.Held:
		held = cmp.Or(f.HeldReason, f.Reason)
		p.alarm(screen.Bad, "clients wait: "+held)
	case f.Phase != calmPhase && f.Reason != "":
		p.alarm(screen.Worry, "phase "+f.Phase+": "+f.Reason)
	}
	for _, text := range f.Alarms {
		if text != held {
			p.alarm(screen.Bad, text)
		}
	}
	if f.Paused {
		p.suggest("pgagroal-cli failover resume", "replace a dead primary again")
	}
	if f.Held || len(f.Alarms) > 0 || f.Phase != calmPhase {
		p.suggest("pgagroal-cli failover status", "what pgagroal waits for, and what ends it")
	}
}

func serversTable(r *control.StatusResponse) screen.Table {
	t := screen.Table{Columns: []screen.Column{
		{Title: "SERVER"}, {Title: "STATE", Least: stateWidth}, {Title: "HEALTH"}, {Title: "ADDRESS", Spare: 1, Least: addressWidth}, {Title: "BEHIND", Right: true}, {Title: "RECEIVES"}, {Title: "VERSION", Right: true, Spare: 2},
	}}
	for _, name := range slices.Sorted(maps.Keys(r.Servers)) {
		s := r.Servers[name]
		row := screen.Row{Cells: []screen.Cell{
			{Text: name},
			state(s.State, s.Qualifier),
			{Text: s.Health, Colour: colourOf(s.Health)},
			{Text: address(s.Host, s.Port)},
			{Text: behindText(s.Behind, s.LagSeconds)},
			receives(r, name),
			{Text: number0(s.MajorVersion)},
		}}
		if s.Qualifier != "" || s.Health != control.HealthUp || !isNormal(s.State) {
			row.Notes = note(screen.Faint, "", s.Reason)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// isNormal reports whether a healthy server in this state needs no explanation.
func isNormal(state string) bool { return state == "Primary" || state == "Replica" }

// receives says whether a standby receives WAL.
func receives(r *control.StatusResponse, name string) screen.Cell {
	s, ok := r.Standbys[name]
	switch {
	case !ok:
		return screen.Cell{}
	case s.Streaming:
		return screen.Cell{Text: "streaming"}
	case s.WALReceiverStatus != "":
		return screen.Cell{Text: s.WALReceiverStatus, Colour: screen.Worry}
	}
	return screen.Cell{Text: "unknown", Colour: screen.Worry}
}

func statusFoot(p *page, r *control.StatusResponse) {
	f := r.Failover
	word := "on"
	switch {
	case !f.Enabled:
		word = "off"
	case f.Paused:
		word = "paused"
	}
	text := fmt.Sprintf("%s, phase %s, epoch %d", word, f.Phase, f.Epoch)
	if f.Timeline != 0 {
		text += fmt.Sprintf(", timeline %d", f.Timeline)
	}
	if f.Reason != "" && f.Phase == calmPhase {
		text += ": " + f.Reason
	}
	p.pairs("",
		screen.Pair{Name: "Connections", Text: fmt.Sprintf("%d active, %d open, %d at most", r.ActiveConnections, r.TotalConnections, r.MaxConnections)},
		screen.Pair{Name: "Failover", Text: text},
		screen.Pair{Name: "Confined", Text: strings.Join(r.Confinement.InForce, ", ")},
		screen.Pair{Name: "Unconfined", Text: strings.Join(r.Confinement.Lacking, ", ")},
		screen.Pair{Name: "Upgraded", Text: upgradedText(r.Upgrade)},
	)
}

// upgradedText says what upgrades have left, "" for none.
func upgradedText(u *control.Upgraded) string {
	if u == nil || u.Count == 0 { // the alarm says why an attempt has failed
		return ""
	}
	text := fmt.Sprintf("%d times since the start at %s: %s", u.Count, u.Since, u.Note)
	if u.OldWorkers > 0 {
		text += fmt.Sprintf("; %d clients are with %d workers of earlier versions", u.OldClients, u.OldWorkers)
	}
	return text
}

func limitsTable(limits []control.Limit) screen.Table {
	t := screen.Table{Columns: []screen.Column{
		{Title: "DATABASE"}, {Title: "USER"}, {Title: "ACTIVE", Right: true}, {Title: "MAX", Right: true}, {Title: "INITIAL", Right: true}, {Title: "MIN", Right: true},
	}}
	for _, l := range limits {
		active := screen.Cell{Text: strconv.Itoa(l.ActiveConnections)}
		if l.ActiveConnections >= l.MaxConnections {
			active.Colour = screen.Worry
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: l.Database}, {Text: l.Username}, active, {Text: strconv.Itoa(l.MaxConnections)}, {Text: strconv.Itoa(l.InitialConnections)}, {Text: strconv.Itoa(l.MinConnections)},
		}})
	}
	return t
}

func databasesTable(databases []control.Database) screen.Table {
	t := screen.Table{Columns: []screen.Column{{Title: "DATABASE"}, {Title: "NEW CLIENTS"}}}
	for _, d := range databases {
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{{Text: d.Database}, letIn(d.Enabled)}})
	}
	return t
}

func letIn(enabled bool) screen.Cell {
	if enabled {
		return screen.Cell{Text: "let in"}
	}
	return screen.Cell{Text: "refused", Colour: screen.Worry}
}

func databasesView(p *page, _ *answer, r *control.DatabasesResponse) {
	for _, d := range r.Databases {
		name := "database " + d.Database
		if d.Database == "*" || d.Database == "all" {
			name = "all databases"
		}
		c := letIn(d.Enabled)
		p.says(c.Colour, name+": new clients are "+c.Text)
		if !d.Enabled {
			p.suggest("pgagroal-cli enable "+shellWord(d.Database), "let new clients in again")
		}
	}
}

func connectionsTable(list []control.Connection, at time.Time) screen.Table {
	t := screen.Table{Columns: []screen.Column{
		{Title: "STATE"},
		{Title: "DATABASE"},
		{Title: "USER"},
		{Title: "SERVER"},
		{Title: "AGE", Right: true},
		{Title: "USED", Right: true},
		{Title: "CLIENT", Spare: 2, Least: addressWidth},
		{Title: "APPLICATION", Spare: 1},
		{Title: "WORKER", Right: true, Spare: 3},
	}}
	for _, c := range list {
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: c.State},
			{Text: c.Database},
			{Text: c.Username},
			{Text: c.Server},
			{Text: since(at, c.StartTime)},
			{Text: since(at, c.Timestamp)},
			{Text: c.Client},
			{Text: c.AppName},
			{Text: number0(c.PID)},
		}})
	}
	return t
}

// since is how long ago a Unix time was, empty for -1.
func since(at time.Time, unix int64) string {
	if unix < 0 || at.IsZero() {
		return ""
	}
	d := at.Sub(time.Unix(unix, 0))
	if d < time.Second {
		return "0s"
	}
	return screen.Duration(d.Truncate(time.Second))
}

// state is the state of a server with its qualifier.
func state(word, qualifier string) screen.Cell {
	c := screen.Cell{Text: word, Colour: colourOf(word)}
	if qualifier != "" {
		c.Text += " (" + qualifier + ")"
		if c.Colour == screen.Good {
			c.Colour = screen.Worry
		}
	}
	return c
}

// colourOf is the colour of a word of internal/control.
func colourOf(word string) screen.Colour {
	switch word {
	case control.HealthUp, control.ServerRunning, "Primary", "Replica":
		return screen.Good
	case control.HealthDown, control.ServerDown, "Failed":
		return screen.Bad
	case "Failover", "Not init", "Not init (primary)":
		return screen.Worry
	}
	return screen.Plain
}

func address(host string, port int) string {
	if strings.HasPrefix(host, "/") {
		return fmt.Sprintf("%s/.s.PGSQL.%d", host, port)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// behindText says how far a standby is behind: in bytes, and since when if that is known.
func behindText(bytes *int64, seconds *float64) string {
	switch {
	case bytes == nil:
		return ""
	case *bytes == 0 || seconds == nil || *seconds == 0:
		return screen.Bytes(*bytes)
	}
	return screen.Bytes(*bytes) + ", " + screen.Seconds(*seconds)
}

// number0 is a number, empty for 0, which stands for unknown.
func number0(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
