package main

import (
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// page is an answer for people. It says first what is going on, then what is wrong, then
// everything else, and at the end what to type next.
type page struct {
	screen.Screen
	text strings.Builder
	next []suggestion
}

// suggestion is a command that may help, and what it does.
type suggestion struct{ command, why string }

// says writes a sentence.
func (p *page) says(c screen.Colour, text string) {
	p.text.WriteString(p.Wrap("", c, text))
}

// alarm writes a sentence about something that is wrong.
func (p *page) alarm(c screen.Colour, text string) {
	p.text.WriteString(p.Wrap("! ", c, text))
}

// part begins a part of the page after an empty line, with a title if there is one.
func (p *page) part(title string) {
	if p.text.Len() > 0 {
		p.text.WriteString("\n")
	}
	if title != "" {
		p.text.WriteString(p.Paint(screen.Strong, title) + "\n")
	}
}

// table writes a table as a part of its own, if it has rows.
func (p *page) table(title string, t screen.Table) {
	if len(t.Rows) == 0 {
		return
	}
	p.part(title)
	p.text.WriteString(p.Table(t))
}

// pairs writes names and values as a part of their own.
func (p *page) pairs(title string, list ...screen.Pair) {
	if text := p.Pairs(list); text != "" {
		p.part(title)
		p.text.WriteString(text)
	}
}

// suggest adds a command to what stands at the end. Each command stands there once.
func (p *page) suggest(command, why string) {
	for _, s := range p.next {
		if s.command == command {
			return
		}
	}
	p.next = append(p.next, suggestion{command, why})
}

// String ends the page.
func (p *page) String() string {
	if len(p.next) > 0 {
		var list []screen.Pair
		for _, s := range p.next {
			list = append(list, screen.Pair{Name: s.command, Text: s.why})
		}
		p.pairs("Next", list...)
		p.next = nil
	}
	return p.text.String()
}

// note is a sentence below the row of a table, nothing if the text is empty.
func note(c screen.Colour, prefix, text string) []screen.Note {
	if text == "" {
		return nil
	}
	return []screen.Note{{Text: prefix + text, Colour: c}}
}
