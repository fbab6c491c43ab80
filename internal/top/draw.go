package top

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

const (
	alarmsShown = 3
	// serversShown leaves room for a list below, on a screen of 24 lines.
	serversShown = 7
	// late is the age from which a sample is called old.
	late = 3 * interval
)

// text is everything, for a screen without an end.
func (m *model) text() string {
	all := append(m.head(0), m.rows(listPools)...)
	all = append(append(all, ""), m.rows(listClients)...)
	return strings.Join(all, "\n") + "\n"
}

// draw fills the screen: the head, as many rows of the lists as there is room for, and the
// keys in the last line.
func (m *model) draw() string {
	if m.height == 0 {
		return ""
	}
	lines := m.head(alarmsShown)
	list := m.rows(m.list)
	room := max(m.height-1-len(lines)-1, 0)
	m.skip = min(m.skip, max(len(list)-1-room, 0))
	lines = append(lines, list[0])
	lines = append(lines, list[1+m.skip:min(len(list), 1+m.skip+room)]...)
	// A large screen has room for the other list as well.
	lines = append(append(lines, ""), m.rows((m.list+1)%lists)...)
	lines = lines[:min(len(lines), m.height-1)]
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, m.foot()), "\n")
}

// head is what is above the list. most limits the alarms, 0 doesn't.
func (m *model) head(most int) []string {
	lines := []string{m.title()}
	if m.failed != nil {
		lines = append(lines, m.cut(screen.Bad, "! "+m.failed.Error()))
	}
	if m.last.at.IsZero() {
		return append(lines, "")
	}
	lines = append(lines, m.phase())
	alarms := m.alarms()
	for i, a := range alarms {
		if most > 0 && i == most {
			lines = append(lines, m.cut(screen.Bad, fmt.Sprintf("! and %d more, see pgagroal-cli failover status", len(alarms)-most)))
			break
		}
		lines = append(lines, m.cut(screen.Bad, "! "+a))
	}
	lines = append(lines, "")
	servers := m.servers()
	if most > 0 && len(servers) > serversShown {
		servers = append(servers[:serversShown-1], m.screen.Paint(screen.Faint, fmt.Sprintf("and %d more", len(servers)-serversShown+1)))
	}
	lines = append(lines, servers...)
	lines = append(append(lines, ""), m.traffic()...)
	return append(lines, "")
}

// cut writes one line that is no wider than the screen.
func (m *model) cut(c screen.Colour, text string) string {
	text = screen.Clean(text)
	if m.screen.Width > 0 {
		text = screen.Cut(text, m.screen.Width)
	}
	return m.screen.Paint(c, text)
}

// title says which pgagroal this is, and how old the view.
func (m *model) title() string {
	if m.last.at.IsZero() {
		return m.cut(screen.Strong, "pgagroal: no answer yet")
	}
	d := m.last.details
	text := fmt.Sprintf("pgagroal %s  %s  %d of %d connections active, %d clients", m.last.version, strings.ToLower(d.Status), d.ActiveConnections, d.MaxConnections, d.Traffic.Clients)
	age := m.now.Sub(m.last.at)
	colour, right := screen.Strong, m.last.at.Format("15:04:05")
	switch {
	case m.still:
		colour, right = screen.Worry, "held at "+right
	case age > late:
		colour, right = screen.Worry, "of "+right+", "+screen.Duration(age.Truncate(time.Second))+" ago"
	}
	if m.screen.Width > 0 {
		room := m.screen.Width - screen.Width(right) - 2
		text = screen.Cut(screen.Clean(text), room)
		text += strings.Repeat(" ", max(room-screen.Width(text), 0))
	}
	return m.cut(colour, text+"  "+right)
}

// phase says what the failover does.
func (m *model) phase() string {
	f := m.last.failover
	word := "on"
	switch {
	case !f.Enabled:
		word = "off"
	case f.Paused:
		word = "paused"
	}
	text := fmt.Sprintf("failover %s  phase %s  epoch %d", word, f.Phase, f.Epoch)
	if f.Run != nil {
		text += fmt.Sprintf("  %s script since %s of %s", f.Run.Hook, screen.Seconds(f.Run.Elapsed), screen.Seconds(f.Run.Timeout))
	}
	if f.Reason != "" {
		text += "  " + f.Reason
	}
	colour := screen.Good
	if f.Phase != "open" || f.Paused {
		colour = screen.Worry
	}
	return m.cut(colour, text)
}

func (m *model) alarms() []string {
	f := m.last.failover
	var list []string
	held := ""
	if f.Held {
		held = cmp.Or(f.HeldReason, f.Reason)
		list = append(list, "clients wait: "+held)
	}
	for _, a := range f.Alarms {
		if a != held {
			list = append(list, a)
		}
	}
	return list
}

// traffic draws the figures over time.
func (m *model) traffic() []string {
	s := m.series
	var lines []string
	for _, f := range []struct {
		name   string
		values []float64
		unit   string
		colour screen.Colour
	}{
		{"transactions", s.transactions, "/s", screen.Good},
		{"queries", s.queries, "/s", screen.Good},
		{"query time", s.latency, " ms", screen.Plain},
		{"wait time", s.wait, " ms", screen.Plain},
		{"waiting", s.waiting, "", screen.Worry},
	} {
		text := fmt.Sprintf("%-13s%12s  ", f.name, number(f.values, f.unit))
		n := max(min(m.screen.Width, seriesKept)-screen.Width(text), 0)
		if m.screen.Width == 0 {
			n = len(f.values)
		}
		lines = append(lines, strings.TrimRight(text+m.screen.Paint(f.colour, screen.Spark(f.values, n)), " "))
	}
	return lines
}

// number is the latest value with its unit, nothing before there is one.
func number(values []float64, unit string) string {
	if len(values) == 0 {
		return "-"
	}
	v := values[len(values)-1]
	if v >= 100 || v == float64(int64(v)) {
		return fmt.Sprintf("%.0f%s", v, unit)
	}
	return fmt.Sprintf("%.2f%s", v, unit)
}

// foot shows the keys, or what the user is asked or told.
func (m *model) foot() string {
	switch {
	case m.question != nil:
		return m.cut(screen.Worry, m.question.text+" y/n")
	case m.typing:
		return m.cut(screen.Worry, "filter: "+m.filter+"_   enter keeps it, esc clears it")
	case m.picking:
		return m.cut(screen.Worry, "disconnect the client with ID: "+m.pick+"_   enter asks, esc leaves")
	case m.said != "":
		return m.cut(screen.Worry, m.said)
	}
	by := sortable[m.list][m.sorts[m.list]]
	filter := ""
	if m.filter != "" {
		filter = " [" + m.filter + "]"
	}
	keys := fmt.Sprintf("q quit  tab %s  s by %s  / filter%s  f failover  p pause  u resume  x kick", listNames[(m.list+1)%lists], by, filter)
	if more := keys + "  r reverse  space hold"; screen.Width(more) <= m.screen.Width {
		keys = more
	}
	return m.cut(screen.Faint, keys)
}

// isStandby reports whether a server is shown below the one that it follows.
func isStandby(s control.Server) bool { return s.State == "Replica" }
