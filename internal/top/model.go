package top

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/screen"
)

const interval = time.Second

// lists are the tables that a key changes between.
const (
	listPools = iota
	listClients
	lists
)

// model is the state of the view. Only bubbletea's loop changes it.
type model struct {
	ask    Ask
	screen screen.Screen
	height int

	now    time.Time
	asking bool // a question is under way
	still  bool // no new samples are wanted
	last   sample
	series series
	failed error // why the latest question had no answer

	list    int
	sorts   [lists]int // the column by which each list is sorted
	reverse bool
	skip    int // rows of the list that are scrolled away
	filter  string
	typing  bool // keys go into the filter

	question *question // y or n is awaited
	said     string    // how an order ended
}

// question is an order that waits for a yes.
type question struct {
	text, command string
	args          map[string]string
}

type (
	tickMsg    time.Time
	sampledMsg struct {
		sample
		err error
	}
	orderedMsg struct{ text string }
)

// Init asks for the first sample.
func (m *model) Init() tea.Cmd { return tea.Batch(m.sample(), tick()) }

func tick() tea.Cmd { return tea.Tick(interval, func(t time.Time) tea.Msg { return tickMsg(t) }) }

// sample asks unless a question is under way already.
func (m *model) sample() tea.Cmd {
	if m.asking {
		return nil
	}
	m.asking = true
	return func() tea.Msg {
		s, err := take(m.ask)
		return sampledMsg{s, err}
	}
}

// Update handles an event.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.screen.Width, m.height = msg.Width, msg.Height
	case tickMsg:
		m.now = time.Time(msg)
		if m.still {
			return m, tick()
		}
		return m, tea.Batch(m.sample(), tick())
	case sampledMsg:
		m.onSample(msg)
	case orderedMsg:
		m.said = msg.text
		return m, m.sample()
	case tea.KeyPressMsg:
		return m, m.onKey(msg.String())
	}
	return m, nil
}

func (m *model) onSample(msg sampledMsg) {
	m.asking = false
	m.failed = msg.err
	if msg.err != nil {
		return
	}
	m.series.add(m.last, msg.sample)
	m.last, m.now = msg.sample, msg.at
}

// onKey handles a key.
func (m *model) onKey(key string) tea.Cmd {
	m.said = ""
	switch {
	case key == "ctrl+c":
		return tea.Quit
	case m.question != nil:
		return m.onAnswer(key)
	case m.typing:
		m.onFilter(key)
		return nil
	}
	switch key {
	case "q":
		return tea.Quit
	case "tab":
		m.list, m.skip = (m.list+1)%lists, 0
	case "s":
		m.sorts[m.list] = (m.sorts[m.list] + 1) % len(sortable[m.list])
	case "r":
		m.reverse = !m.reverse
	case "/":
		m.typing = true
	case "esc":
		m.filter = ""
	case "space":
		m.still = !m.still
	case "f":
		m.question = m.failoverQuestion()
	case "p":
		m.question = &question{"Pause all? Clients wait, and connections close when running work has ended.", control.Pause, everything()}
	case "u":
		m.question = &question{"Resume all? Clients that wait go on.", control.Resume, everything()}
	default:
		m.scroll(key)
	}
	return nil
}

func (m *model) scroll(key string) {
	steps := map[string]int{"down": 1, "j": 1, "up": -1, "k": -1, "pgdown": 10, "pgup": -10, "home": -m.skip}
	m.skip = max(m.skip+steps[key], 0)
}

// onFilter edits the filter.
func (m *model) onFilter(key string) {
	m.skip = 0
	switch {
	case key == "enter":
		m.typing = false
	case key == "esc":
		m.typing, m.filter = false, ""
	case key == "backspace":
		r := []rune(m.filter)
		m.filter = string(r[:max(0, len(r)-1)])
	case key == "space":
		m.filter += " "
	case len([]rune(key)) == 1:
		m.filter += key
	}
}

func (m *model) failoverQuestion() *question {
	if m.last.failover.Paused {
		return &question{"End the pause of failover? A primary that is dead is replaced at once.", control.FailoverResume, nil}
	}
	return &question{"Pause failover? A dead primary isn't replaced until it is resumed.", control.FailoverPause, nil}
}

func everything() map[string]string { return map[string]string{control.ArgDatabase: "all"} }

// onAnswer gives the order after a yes. Everything else is a no.
func (m *model) onAnswer(key string) tea.Cmd {
	q := m.question
	m.question = nil
	if key != "y" {
		m.said = "nothing was done"
		return nil
	}
	return func() tea.Msg {
		var r struct{ Next string }
		if err := m.ask(q.command, q.args, &r); err != nil {
			return orderedMsg{err.Error()}
		}
		return orderedMsg{r.Next}
	}
}

// View draws the screen.
func (m *model) View() tea.View {
	v := tea.NewView(m.draw())
	v.AltScreen = true
	v.WindowTitle = "pgagroal"
	return v
}

// passes reports whether a row has the text of the filter.
func (m *model) passes(cells []screen.Cell) bool {
	return m.filter == "" || slices.ContainsFunc(cells, func(c screen.Cell) bool {
		return strings.Contains(strings.ToLower(c.Text), strings.ToLower(m.filter))
	})
}
