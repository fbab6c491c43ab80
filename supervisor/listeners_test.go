package supervisor

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// TestConsoleIsRefusedWhereTheStarterHasNoProgramOfIt: its ports would be open, and nobody would ever answer.
func TestConsoleIsRefusedWhereTheStarterHasNoProgramOfIt(t *testing.T) {
	was, is := config.New(), config.New()
	is.Metrics = 2346
	r := &readAgain{next: &generation{cfg: is}}
	if err := r.preparePorts(&listen.Sockets{}, nil, &proc.Starter{}, was, slog.New(slog.DiscardHandler)); !errors.Is(err, errLateConsole) {
		t.Errorf("%v", err)
	}
	if err := r.preparePorts(&listen.Sockets{}, nil, nil, was, slog.New(slog.DiscardHandler)); errors.Is(err, errLateConsole) {
		t.Error("it is refused without worker_user, too")
	}
}
