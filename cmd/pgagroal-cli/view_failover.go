package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func failoverView(p *page, _ *answer, r *control.FailoverStatusResponse) {
	failoverHead(p, r)
	p.table("", failoverServers(p, r))
	p.pairs("", failoverFacts(r)...)
	switch {
	case r.Run != nil:
		p.suggest("pgagroal-cli failover status", "how far the script is")
	case len(r.Alarms) > 0 || r.Held:
		p.suggest("pgagroal-cli failover history", "how it came to this")
	case r.Enabled:
		p.suggest("pgagroal-cli failover rehearse", "would a failover go well?")
	}
}

// failoverHead says what pgagroal is doing, and what is wrong.
func failoverHead(p *page, r *control.FailoverStatusResponse) {
	primary := "no primary"
	if r.Primary != "" {
		primary = "primary " + r.Primary
	}
	text := fmt.Sprintf("Phase %s: %s, epoch %d", cmp.Or(r.Phase, "unknown"), primary, r.Epoch)
	if r.Timeline != 0 {
		text += fmt.Sprintf(", timeline %d", r.Timeline)
	}
	colour := screen.Good
	if len(r.Alarms) > 0 || r.Held {
		colour = screen.Strong
	}
	p.says(colour, text)
	if r.Reason != "" && !r.Held {
		p.says(screen.Plain, r.Reason)
	}
	if x := r.Run; x != nil {
		p.says(screen.Worry, fmt.Sprintf("the %s script has been running for %s of at most %s: %s", x.Hook, screen.Seconds(x.Elapsed), screen.Seconds(x.Timeout), strings.Join(x.Args, " ")))
	}
	held := ""
	if r.Held {
		held = cmp.Or(r.HeldReason, r.Reason)
		p.alarm(screen.Bad, "clients wait: "+held)
	}
	for _, a := range r.Alarms {
		if a != held {
			p.alarm(screen.Bad, a)
		}
	}
	if r.Paused {
		p.suggest("pgagroal-cli failover resume", "replace a dead primary again")
	}
}

func failoverServers(p *page, r *control.FailoverStatusResponse) screen.Table {
	t := screen.Table{Columns: []screen.Column{
		{Title: "SERVER"},
		{Title: "STATE", Least: stateWidth},
		{Title: "LAST PROBE"},
		{Title: "AGO", Right: true},
		{Title: "FAILED", Right: true},
		{Title: "TIMELINE", Right: true},
		{Title: "LSN"},
		{Title: "PRIORITY", Right: true, Spare: 1},
		{Title: "ADDRESS", Spare: 2},
	}}
	for _, s := range r.Servers {
		priority := strconv.Itoa(s.Priority)
		if !s.Candidate {
			priority = "never"
		}
		row := screen.Row{Cells: []screen.Cell{
			{Text: s.Server},
			state(s.State, s.Qualifier),
			{Text: s.Probe},
			{Text: screen.Seconds(s.ProbeAge)},
			{Text: number0(s.Failures), Colour: screen.Worry},
			{Text: number0(int(s.Timeline))},
			{Text: s.LSN},
			{Text: priority},
			{Text: address(s.Host, s.Port)},
		}}
		row.Notes = slices.Concat(note(screen.Faint, "", why(s)), note(screen.Worry, "ended by: ", s.EndedBy))
		t.Rows = append(t.Rows, row)
		if command, _, _ := strings.Cut(s.EndedBy, " ("); command != "" {
			p.suggest(command, "ends the state "+s.State+" of "+s.Server)
		}
	}
	return t
}

// why is the reason for a state, unless a server is as it should be.
func why(s control.FailoverServer) string {
	if isNormal(s.State) && s.Qualifier == "" && s.Failures == 0 {
		return ""
	}
	return s.Reason
}

// failoverFacts is what else an operator may want to know.
func failoverFacts(r *control.FailoverStatusResponse) []screen.Pair {
	failover := screen.Pair{Name: "Failover", Text: "on"}
	switch {
	case !r.Enabled:
		failover.Text = "off"
	case r.Paused:
		failover = screen.Pair{Name: "Failover", Text: "paused", Colour: screen.Worry}
	}
	if r.Mode != "" {
		failover.Text += ", mode " + r.Mode
	}
	lsn := ""
	if r.LastLSN != "" {
		lsn = fmt.Sprintf("%s on the primary, %s ago", r.LastLSN, screen.Seconds(r.LastLSNAge))
	}
	state := screen.Pair{Name: "State dir", Text: r.StateDir}
	if !r.StateDirWritable && (r.Enabled || r.StateDir != "") { // with failover = off none is needed
		state = screen.Pair{Name: "State dir", Text: strings.TrimSpace(r.StateDir + " can't be written: " + r.StateDirError), Colour: screen.Bad}
	}
	list := []screen.Pair{failover, {Name: "Runs", Text: strconv.Itoa(r.Runs)}, {Name: "Last LSN", Text: lsn}, runner(r), state}
	for _, hook := range slices.Sorted(maps.Keys(r.Runner.Problems)) {
		list = append(list, screen.Pair{Name: "Problem", Text: hook + ": " + r.Runner.Problems[hook], Colour: screen.Bad})
	}
	return list
}

// runner is empty where there is no runner because no script is to run.
func runner(status *control.FailoverStatusResponse) screen.Pair {
	r := status.Runner
	if !r.Connected && (!status.Enabled || status.Mode == config.ModeFollow) {
		return screen.Pair{}
	}
	x := screen.Pair{Name: "Runner", Text: "not connected", Colour: screen.Worry}
	switch {
	case r.Connected && r.DigestMatch:
		x = screen.Pair{Name: "Runner", Text: fmt.Sprintf("connected, process %d", r.PID)}
	case r.Connected:
		x.Text = fmt.Sprintf("connected, process %d, but it has read other hooks", r.PID)
		x.Colour = screen.Bad
	}
	if r.Socket != "" {
		x.Text += ", at " + r.Socket
	}
	if r.Error != "" {
		x.Text += ": " + r.Error
	}
	return x
}

// entry is what failover history shows of an entry. The supervisor writes it.
type entry struct {
	Time       time.Time         `json:"time"`
	Kind       string            `json:"kind"`
	Epoch      uint64            `json:"epoch"`
	Reason     string            `json:"reason"`
	Result     string            `json:"result"`
	Old        string            `json:"old"`
	New        string            `json:"new"`
	Timeline   uint32            `json:"timeline"`
	LSN        string            `json:"lsn"`
	Probes     []string          `json:"probes"`
	Candidates []candidate       `json:"candidates"`
	Args       []string          `json:"argv"`
	Exit       *int              `json:"exit"`
	Output     string            `json:"output"`
	Durations  map[string]string `json:"durations"`
}

// candidate is a server as the choice has seen it.
type candidate struct {
	Name    string `json:"name"`
	LSN     string `json:"lsn"`
	Verdict string `json:"verdict"`
}

func historyView(p *page, _ *answer, r *control.HistoryResponse) {
	if len(r.History) == 0 {
		p.says(screen.Plain, "Nothing has happened yet.")
	}
	for _, raw := range r.History {
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			// The file may be of another release, or damaged.
			p.part("")
			p.says(screen.Plain, string(raw))
			continue
		}
		entryView(p, e)
	}
}

func entryView(p *page, e entry) {
	p.part("")
	text := e.Kind
	if !e.Time.IsZero() {
		text = e.Time.Local().Format("2006-01-02 15:04:05") + "  " + text
	}
	switch {
	case e.Old != "" && e.New != "":
		text += ", " + e.Old + " -> " + e.New
	case cmp.Or(e.New, e.Old) != "":
		text += ", " + cmp.Or(e.New, e.Old)
	}
	if e.Result != "" {
		text += ": " + e.Result
	}
	colour := screen.Strong
	if e.Exit != nil && *e.Exit != 0 {
		colour = screen.Bad
	}
	p.says(colour, text)
	var chosen []string
	for _, c := range e.Candidates {
		chosen = append(chosen, strings.TrimSpace(c.Name+" "+c.Verdict+" "+c.LSN))
	}
	p.text.WriteString(p.Pairs([]screen.Pair{
		{Name: "  reason", Text: e.Reason},
		{Name: "  probes", Text: strings.Join(e.Probes, "; ")},
		{Name: "  candidates", Text: strings.Join(chosen, "; ")},
		{Name: "  arguments", Text: strings.Join(e.Args, " ")},
		{Name: "  durations", Text: durations(e.Durations)},
		{Name: "  record", Text: record(e)},
	}))
	for line := range strings.Lines(e.Output) {
		p.text.WriteString("  | " + screen.Clean(strings.TrimRight(line, "\n")) + "\n")
	}
}

// phases is the order in which a failover passes through them.
var phases = []string{"suspect", "switching", "fencing", "choosing", "running", "verifying"}

func durations(of map[string]string) string {
	var list []string
	for _, name := range phases {
		if d, ok := of[name]; ok {
			list = append(list, name+" "+d)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if !slices.Contains(phases, name) {
			list = append(list, name+" "+of[name])
		}
	}
	return strings.Join(list, ", ")
}

func record(e entry) string {
	text := fmt.Sprintf("epoch %d", e.Epoch)
	if e.Timeline != 0 {
		text += fmt.Sprintf(", timeline %d", e.Timeline)
	}
	if e.LSN != "" {
		text += ", LSN " + e.LSN
	}
	return text
}

func rehearsalView(p *page, _ *answer, r *control.RehearsalResponse) {
	switch {
	case !r.Well:
		p.says(screen.Bad, "A failover would not go well.")
	case r.Next == "":
		p.says(screen.Good, "A failover would go well.")
	default:
		p.says(screen.Good, fmt.Sprintf("A failover would go well: without %s, %s would be promoted.", r.Primary, r.Next))
	}
	findings(p, screen.Bad, "", r.Problems)
	findings(p, screen.Worry, "warning: ", r.Warnings)
	t := screen.Table{Columns: []screen.Column{{Title: "SERVER"}, {Title: "VERDICT"}, {Title: "TIMELINE", Right: true}, {Title: "LSN"}}}
	for _, c := range r.Candidates {
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{{Text: c.Server}, {Text: c.Verdict}, {Text: number0(int(c.Timeline))}, {Text: c.LSN}}})
	}
	p.table("Candidates", t)
	t = screen.Table{Columns: []screen.Column{{Title: "HOOK"}, {Title: "SCRIPT"}, {Title: "CHECK"}}}
	for _, x := range r.Runs {
		check, notes := screen.Cell{}, note(screen.Faint, "arguments: ", strings.Join(x.Args, " "))
		if x.Check != nil {
			check.Text = x.Check.Result
			for _, w := range x.Check.Words {
				notes = append(notes, note(screen.Plain, "| ", w)...)
			}
		}
		if x.Check != nil && x.Check.Failed() {
			check.Colour = screen.Bad
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{{Text: x.Hook}, {Text: x.Script}, check}, Notes: notes})
	}
	p.table("Scripts that would run", t)
}

// findings writes what an operator should know. A hint that is a command stands at the
// end, any other one below the finding.
func findings(p *page, c screen.Colour, prefix string, list []control.Finding) {
	for _, f := range list {
		text := prefix
		if f.Server != "" {
			text += f.Server + ": "
		}
		p.alarm(c, text+f.Text)
		switch {
		case strings.HasPrefix(f.Hint, "pgagroal-cli "):
			p.suggest(f.Hint, f.Text)
		case f.Hint != "":
			p.text.WriteString(p.Wrap("    ", screen.Plain, f.Hint))
		}
	}
}
