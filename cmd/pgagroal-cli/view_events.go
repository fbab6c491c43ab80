package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// eventsView has a paragraph for each event, as the log has it.
func eventsView(p *page, _ *answer, r *control.EventsResponse) {
	if r.Missed > 0 {
		p.alarm(screen.Worry, fmt.Sprintf("%d events before these are no longer kept; the log has them.", r.Missed))
	}
	for _, raw := range r.Events {
		eventView(p, raw)
	}
}

func eventView(p *page, raw json.RawMessage) {
	v, err := parse(raw)
	e, ok := v.(*object)
	if err != nil || !ok {
		p.says(screen.Plain, string(raw))
		return
	}
	level := eventText(e.get("level"))
	colour := map[string]screen.Colour{"warn": screen.Worry, "error": screen.Bad, "fatal": screen.Bad}[level]
	text := fmt.Sprintf("%s %s %s", eventTime(e.get("time")), strings.ToUpper(level), eventText(e.get("message")))
	if fields, ok := e.get("fields").(*object); ok {
		for _, m := range fields.members {
			text += " " + m.key + "=" + shellWord(eventText(m.value))
		}
	}
	p.says(colour, text)
}

func eventText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// eventTime shows a time as the history does.
func eventTime(v any) string {
	t, err := time.Parse(time.RFC3339, eventText(v))
	if err != nil {
		return eventText(v)
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
