package screen

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// Screen is where text goes.
type Screen struct {
	// Width is the number of columns, 0 without a limit.
	Width int
	// Colours says whether to colour.
	Colours bool
}

// Words that say when to colour.
const (
	Auto   = "auto" // on a terminal, unless NO_COLOR is set
	Always = "always"
	Never  = "never"
)

// Of describes the screen behind w. Only a terminal limits the width. COLUMNS limits it
// everywhere, as a user may want for a pager. getenv is os.Getenv.
func Of(w io.Writer, getenv func(string) string, when string) Screen {
	s := Screen{Colours: when == Always}
	f, ok := w.(*os.File)
	if ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			s.Width = width
		}
		if when == Auto {
			s.Colours = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
		}
	}
	if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	}
	return s
}

// Colour is the meaning of a text; its value is the code of the terminal.
type Colour string

// The colours. Plain leaves the text as it is.
const (
	Plain  Colour = ""
	Strong Colour = "1"
	Faint  Colour = "2"
	Good   Colour = "32"
	Worry  Colour = "33"
	Bad    Colour = "1;31"
	Title  Colour = "1;4"
)

// Paint returns the cleaned text in a colour, if the screen has colours.
func (s Screen) Paint(c Colour, text string) string {
	text = Clean(text)
	if !s.Colours || c == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Wrap breaks a sentence into lines that fit the width. The first line begins with
// first, all others are indented by as many blanks. Words that are longer than a line
// stay whole: they are paths and commands, which people copy.
func (s Screen) Wrap(first string, c Colour, text string) string {
	return s.hang(Cell{first, c}, Cell{text, c})
}

// hang is Wrap with a first cell in a colour of its own.
func (s Screen) hang(first, text Cell) string {
	var b strings.Builder
	b.WriteString(s.Paint(first.Colour, first.Text))
	indent := strings.Repeat(" ", Width(Clean(first.Text)))
	line := ""
	for _, word := range strings.Fields(Clean(text.Text)) {
		switch {
		case line == "":
			line = word
		case s.Width > 0 && Width(indent)+Width(line)+1+Width(word) > s.Width:
			b.WriteString(s.Paint(text.Colour, line) + "\n" + indent)
			line = word
		default:
			line += " " + word
		}
	}
	b.WriteString(s.Paint(text.Colour, line) + "\n")
	return b.String()
}

// Width returns how many columns a text takes.
func Width(text string) int { return ansi.StringWidth(text) }

// Cut shortens a text to n columns; an ellipsis at the end shows that something is missing.
func Cut(text string, n int) string { return ansi.Truncate(text, max(n, 0), "…") }

// Clean escapes what could move the cursor, colour the screen or reverse the direction
// of text.
func Clean(s string) string {
	if !strings.ContainsFunc(s, hostile) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hostile(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hostile(r rune) bool {
	return unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}
