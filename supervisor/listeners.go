package supervisor

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// ports are the sockets that pgagroal listens on. A reload opens new ones when it prepares, and
// closes the others when it commits.
type ports struct {
	open *listen.Sockets
	// next and program are of the reload in progress: what it does to the sockets, and the program
	// of a console that there was none of. Both are nil for nothing.
	next    *listen.Change
	program *os.File
	// accept starts to accept clients on a socket, and answer to answer pgagroal-cli on another one.
	accept func(*listen.Listener)
	answer func(*net.UnixListener)
}

// errLateConsole: the starter, which starts the console under worker_user, got its program at its own start.
var errLateConsole = errors.New("with worker_user, metrics, console and management can be turned on by a reload only if one of them was on at the start; restart pgagroal")

// preparePorts opens what the next configuration listens on and the running one doesn't, outside
// the loop.
func (r *readAgain) preparePorts(open *listen.Sockets, program *os.File, starter *proc.Starter, was *config.Config, log *slog.Logger) (err error) {
	is := r.next.cfg
	if open == nil || !listen.Changes(was, is) {
		return nil
	}
	if program == nil && starter != nil && servesHTTP(is) {
		return errLateConsole
	}
	if program == nil {
		if r.program, err = openConsole(is); err != nil {
			return err
		}
	}
	if r.sockets, err = open.Prepare(is, log); err != nil && r.program != nil {
		r.program.Close()
	}
	return err
}

// forget closes what a reload has opened that is given up.
func (p *ports) forget() {
	if p.next != nil {
		p.next.Close()
	}
	if p.program != nil {
		p.program.Close()
	}
	p.next, p.program = nil, nil
}

// portsAfterReload puts the sockets of a reload in effect.
func (s *supervisor) portsAfterReload(change *listen.Change, program *os.File) {
	if program != nil {
		s.console.program = program
	}
	if change == nil {
		return
	}
	control, p := change.Control(), &s.clients.ports
	for _, a := range change.Gone() {
		s.log.Info("not listening any more", "network", a.Network(), "address", a.String())
	}
	change.Commit(s.clients.gate)
	for _, l := range change.Clients {
		s.clients.gate.Add(l)
		p.accept(l)
	}
	if control != nil {
		p.answer(control)
	}
	s.clients.budget = clientBudget(s.cfg, fileLimit())
}

// consoleAfterReload starts, ends or replaces the console.
func (s *supervisor) consoleAfterReload(old *generation, moved bool) {
	x := &s.console
	had := x.listeners
	if moved {
		x.listeners = s.clients.ports.open.Console()
	}
	if !slices.Equal(had, x.listeners) || s.consoleDiffers(old) {
		s.replaceConsole(old)
	}
	if x.end == nil && wantsConsole(s.cfg) && !wantsConsole(old.cfg) {
		s.startAide(&x.aide)
	}
}
