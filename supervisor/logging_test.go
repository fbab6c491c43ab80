package supervisor

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/supervisor/logs"
)

// TestALogThatIsNotBackIsTriedAgain: a daemon that starts again is found at the next look,
// a file after a pause.
func TestALogThatIsNotBackIsTriedAgain(t *testing.T) {
	socket := filepath.Join(shortDir(t), "log")
	daemon, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	for _, c := range []struct {
		settings logs.Settings
		pauses   bool
		lines    int // of two failures
	}{
		{logs.Settings{Kind: logs.Syslog, Places: logs.Places{Syslog: socket}}, false, 1},
		{logs.Settings{Kind: logs.File, Path: filepath.Join(t.TempDir(), "log")}, true, 2},
	} {
		w := newWorld(t, 1)
		var said bytes.Buffer
		w.s.log = logline.New(&said, "", slog.LevelInfo, "p")
		open := func() *logs.Log {
			l, err := logs.Open(c.settings, w.s.env.wall())
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		was := open()
		w.s.service.logging.open = was
		for range 2 {
			w.s.onLogOpened(was, nil, logs.Moved, errors.New("nobody is there"))
		}
		if pauses := w.s.service.logging.rest > w.s.env.now(); pauses != c.pauses {
			t.Errorf("%s: that it waits is %v", c.settings.Kind, pauses)
		}
		if n := strings.Count(said.String(), "can't be opened again"); n != c.lines {
			t.Errorf("%s: %d lines", c.settings.Kind, n)
		}
		next := open()
		w.s.onLogOpened(was, next, logs.Moved, nil)
		w.s.onLogOpened(next, nil, logs.Moved, errors.New("nobody is there again"))
		if n := strings.Count(said.String(), "can't be opened again"); n != c.lines+1 {
			t.Errorf("%s: %d lines after the next failure", c.settings.Kind, n)
		}
		next.Close()
	}
}
