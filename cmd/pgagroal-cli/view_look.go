package main

import (
	"fmt"
	"strconv"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

func clientsView(p *page, a *answer, r *control.ClientsResponse) {
	waiting := 0
	t := screen.Table{Columns: []screen.Column{
		{Title: "ID", Right: true},
		{Title: "STATE"},
		{Title: "DATABASE"},
		{Title: "USER"},
		{Title: "AGE", Right: true},
		{Title: "SERVER"},
		{Title: "PROCESS", Right: true, Spare: 3},
		{Title: "CLIENT", Spare: 1, Least: addressWidth},
		{Title: "APPLICATION", Spare: 2},
		{Title: "WORKER", Right: true, Spare: 4},
	}}
	for _, c := range r.Clients {
		state := screen.Cell{Text: c.State}
		if c.State == "waiting" {
			state.Colour = screen.Worry
			waiting++
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: strconv.FormatUint(c.ID, 10)},
			state,
			{Text: c.Database},
			{Text: c.Username},
			{Text: since(a.at(), c.StartTime)},
			{Text: c.Server},
			{Text: number0(int(c.PID))},
			{Text: c.Client},
			{Text: c.AppName},
			{Text: number0(c.Worker)},
		}})
	}
	p.says(screen.Strong, fmt.Sprintf("%d clients, %d of them waiting", len(r.Clients), waiting))
	p.table("", t)
	if len(r.Clients) > 0 {
		p.suggest("pgagroal-cli kick ID", "disconnect a client")
	}
}

func poolsView(p *page, _ *answer, r *control.PoolsResponse) {
	t := screen.Table{Columns: []screen.Column{
		{Title: "DATABASE"}, {Title: "USER"}, {Title: "ACTIVE", Right: true}, {Title: "IDLE", Right: true}, {Title: "WAITING", Right: true}, {Title: "LONGEST", Right: true}, {Title: "PAUSED"},
	}}
	for _, x := range r.Pools {
		waiting, longest, paused := screen.Cell{Text: strconv.Itoa(x.Waiting)}, "", screen.Cell{}
		if x.Waiting > 0 {
			waiting.Colour, longest = screen.Worry, screen.Seconds(float64(x.Waited))
		}
		if x.Paused {
			paused = screen.Cell{Text: "paused", Colour: screen.Worry}
			if r.AllPaused {
				p.suggest("pgagroal-cli resume", "let the clients of all databases go on")
			} else {
				p.suggest("pgagroal-cli resume "+shellWord(x.Database), "let its clients go on")
			}
		}
		t.Rows = append(t.Rows, screen.Row{Cells: []screen.Cell{
			{Text: x.Database}, {Text: x.Username}, {Text: strconv.Itoa(x.Active)}, {Text: strconv.Itoa(x.Idle)}, waiting, {Text: longest}, paused,
		}})
	}
	p.says(screen.Strong, fmt.Sprintf("%d pools", len(r.Pools)))
	p.table("", t)
}

func serverLinesView(p *page, _ *answer, r *control.ServersResponse) {
	t := screen.Table{Columns: []screen.Column{
		{Title: "SERVER"},
		{Title: "STATE", Least: stateWidth},
		{Title: "ACTIVE", Right: true},
		{Title: "IDLE", Right: true},
		{Title: "LAST PROBE"},
		{Title: "AGO", Right: true},
		{Title: "BEHIND", Right: true},
		{Title: "TIMELINE", Right: true, Spare: 2},
		{Title: "LSN", Spare: 3},
		{Title: "ADDRESS", Spare: 1, Least: addressWidth},
	}}
	for _, s := range r.Servers {
		row := screen.Row{Cells: []screen.Cell{
			{Text: s.Server.Server},
			state(s.State, s.Qualifier),
			{Text: strconv.Itoa(s.Active)},
			{Text: strconv.Itoa(s.Idle)},
			{Text: s.Probe},
			{Text: screen.Seconds(s.ProbeAge)},
			{Text: behindText(s.Behind, s.LagSeconds)},
			{Text: number0(int(s.Timeline))},
			{Text: s.LSN},
			{Text: address(s.Host, s.Port)},
		}}
		if s.Qualifier != "" || !isNormal(s.State) {
			row.Notes = note(screen.Faint, "", s.Reason)
		}
		t.Rows = append(t.Rows, row)
	}
	p.says(screen.Strong, fmt.Sprintf("%d servers", len(r.Servers)))
	p.table("", t)
}
