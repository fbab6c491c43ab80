package top

import (
	"fmt"
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
	picking bool // keys go into pick
	pick    string

	question *question // y or n is awaited
	said     string    // how an order ended
}

// question is an order that waits for a yes.
type question struct {
	text, command string
	args          map[string]string
	done          string // what to say afterwards of a command that has no response
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
	case m.picking:
		m.onPick(key)
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
	case "x":
		m.picking, m.pick = true, ""
		m.list, m.skip = listClients, 0
	case "f":
		m.question = m.failoverQuestion()
	case "p":
		m.question = &question{"Pause all? Clients wait, and connections close when running work has ended.", control.Pause, everything(), ""}
	case "u":
		m.question = &question{"Resume all? Clients that wait go on.", control.Resume, everything(), ""}
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

// maxID is how many digits the id of a client has at most.
const maxID = 20

// onPick edits the id of the client to disconnect. A row can't be picked, because rows move
// while one looks for a key.
func (m *model) onPick(key string) {
	switch {
	case key == "enter":
		m.picking = false
		if m.question = m.kickQuestion(); m.question == nil {
			m.said = "no client " + m.pick + " has a connection or waits for one"
		}
	case key == "esc":
		m.picking = false
	case key == "backspace":
		m.pick = m.pick[:max(0, len(m.pick)-1)]
	case len(key) == 1 && key >= "0" && key <= "9" && len(m.pick) < maxID:
		m.pick += key
	}
}

// kickQuestion returns nil if there is no such client in the list.
func (m *model) kickQuestion() *question {
	for _, c := range m.last.details.Connections {
		if c.ID != 0 && id(c) == m.pick {
			text := fmt.Sprintf("Disconnect client %s, %s@%s, %s?", m.pick, c.Username, c.Database, state(c))
			return &question{text, control.Kick, map[string]string{control.ArgID: m.pick}, "client " + m.pick + " is disconnected"}
		}
	}
	return nil
}

func (m *model) failoverQuestion() *question {
	if m.last.failover.Paused {
		return &question{"End the pause of failover? A primary that is dead is replaced at once.", control.FailoverResume, nil, ""}
	}
	return &question{"Pause failover? A dead primary isn't replaced until it is resumed.", control.FailoverPause, nil, ""}
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
		if q.done != "" {
			if err := m.ask(q.command, q.args, nil); err != nil {
				return orderedMsg{err.Error()}
			}
			return orderedMsg{q.done}
		}
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
