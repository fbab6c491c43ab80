package screen

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Column is a column of a Table.
type Column struct {
	Title string
	// Right aligns the column to the right and keeps it from being cut: it has numbers.
	Right bool
	// Spare columns are left out when the table is too wide, those with the largest
	// number first. 0 is never left out.
	Spare int
	// Least is how far the column may be cut before a spare column is left out; 0 means 12.
	Least int
}

// Cell is the text of one column in one row.
type Cell struct {
	Text   string
	Colour Colour
}

// shown is the text in a table, where a tab would move the columns.
func (c Cell) shown() string { return strings.ReplaceAll(Clean(c.Text), "\t", " ") }

// Row is a row of a Table. Notes are sentences that stand below it.
type Row struct {
	Cells []Cell
	Notes []Note
}

// Note is a sentence about a row.
type Note struct {
	Text   string
	Colour Colour
}

// Table is a table with a head. A column without any text isn't shown.
type Table struct {
	Columns []Column
	Rows    []Row
}

const (
	gap        = 2  // blanks between columns
	least      = 12 // Column.Least without a value of its own
	noteIndent = "    "
)

// Table lays out t so that it fits the width.
func (s Screen) Table(t Table) string {
	shown, widths := s.fit(t)
	var b strings.Builder
	head := make([]Cell, len(t.Columns))
	for i, c := range t.Columns {
		head[i] = Cell{c.Title, Faint}
	}
	s.line(&b, t, head, shown, widths)
	for _, r := range t.Rows {
		s.line(&b, t, r.Cells, shown, widths)
		for _, n := range r.Notes {
			b.WriteString(s.Wrap(noteIndent, n.Colour, n.Text))
		}
	}
	return b.String()
}

// line writes one row without blanks at its end.
func (s Screen) line(b *strings.Builder, t Table, cells []Cell, shown, widths []int) {
	blanks := 0 // that are due before the next text
	for k, i := range shown {
		if k > 0 {
			blanks += gap
		}
		c := Cell{}
		if i < len(cells) {
			c = cells[i]
		}
		text := Cut(c.shown(), widths[i])
		before, after := 0, widths[i]-Width(text)
		if t.Columns[i].Right {
			before, after = after, 0
		}
		if text == "" {
			blanks += before + after
			continue
		}
		b.WriteString(strings.Repeat(" ", blanks+before) + s.Paint(c.Colour, text))
		blanks = after
	}
	b.WriteString("\n")
}

// fit returns the indexes of the columns that are shown, and the width of each column.
func (s Screen) fit(t Table) (shown, widths []int) {
	natural := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		for _, r := range t.Rows {
			if i < len(r.Cells) {
				natural[i] = max(natural[i], Width(r.Cells[i].shown()))
			}
		}
		if natural[i] > 0 {
			natural[i] = max(natural[i], Width(c.Title))
			shown = append(shown, i)
		}
	}
	for {
		widths = slices.Clone(natural)
		if s.shrink(shown, widths, func(i int) int { return t.Columns[i].floor() }) {
			return shown, widths
		}
		drop := -1
		for k, i := range shown {
			if t.Columns[i].Spare > 0 && (drop < 0 || t.Columns[i].Spare > t.Columns[shown[drop]].Spare) {
				drop = k
			}
		}
		if drop < 0 {
			s.shrink(shown, widths, func(int) int { return 1 })
			return shown, widths
		}
		shown = slices.Delete(shown, drop, drop+1)
	}
}

// shrink cuts the widest columns, down to the floor of each, until the table fits, and
// reports whether it does.
func (s Screen) shrink(shown, widths []int, floor func(int) int) bool {
	for {
		total, widest := -gap, -1
		for _, i := range shown {
			total += widths[i] + gap
			if widths[i] > floor(i) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if s.Width == 0 || total <= s.Width {
			return true
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
}

// floor is the width below which a column says too little. A column of numbers isn't cut.
func (c Column) floor() int {
	if c.Right {
		return math.MaxInt
	}
	return max(cmp.Or(c.Least, least), Width(c.Title))
}

// Pair is a line of Pairs.
type Pair struct {
	Name   string
	Text   string
	Colour Colour
}

// Pairs lays out names and texts in two columns. A text that is too long goes on below
// itself. A pair without a text isn't shown.
func (s Screen) Pairs(list []Pair) string {
	list = slices.DeleteFunc(slices.Clone(list), func(p Pair) bool { return p.Text == "" })
	width := 0
	for _, p := range list {
		width = max(width, Width(Clean(p.Name)))
	}
	var b strings.Builder
	for _, p := range list {
		name := Clean(p.Name)
		pad := strings.Repeat(" ", width-Width(name)+gap)
		b.WriteString(s.hang(Cell{name + pad, Faint}, Cell{p.Text, p.Colour}))
	}
	return b.String()
}
