package top

import (
	"io"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// Once returns the view as text. It takes two samples, because a rate needs two.
func Once(ask Ask, on screen.Screen) (string, error) {
	m := &model{ask: ask, screen: on}
	for i := range 2 {
		s, err := take(ask)
		if err != nil {
			return "", err
		}
		m.onSample(sampledMsg{sample: s})
		if i == 0 {
			time.Sleep(interval)
		}
	}
	return m.text(), nil
}

// Live shows the view on a terminal until the user ends it.
func Live(ask Ask, on screen.Screen, in io.Reader, out io.Writer) error {
	_, err := tea.NewProgram(&model{ask: ask, screen: on}, tea.WithInput(in), tea.WithOutput(out)).Run()
	return err
}
