package supervisor

import (
	"fmt"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// aide is a further child, beside the workers and the runner, that does one thing for the
// supervisor: the prober or the console. It holds no client and decides nothing, so its
// death costs its own service only.
type aide struct {
	end      *aideEnd // nil between two processes
	failures int      // deaths in a row
	confined confinement
	leaving  bool // pgagroal ends and doesn't need it any more

	name   string // in the log
	spec   func() startSpec
	wanted func() bool // by the configuration; a process that isn't has no next one
	// configure answers the hello of a process with what its set-up needs.
	configure func(*aideEnd)
	// onUp is called when a process takes requests, onDown when it has ended.
	onUp, onDown func()
	unanswered   func() int // requests
}

// aideEnd is one process of an aide. When it has ended, another one is started.
//
//	starting --hello, ready--> up --killed, link ended--> dropped --exit--> (aideGone)
type aideEnd struct {
	of      *aide
	started *started // nil while starting
	born    time.Duration
	setup   *timer
	greeted bool // has said hello
	up      bool // takes requests
	dropped bool // SIGKILL was sent: its messages are ignored
	done    bool // another process with a new configuration takes its place
	logged  lineCounts
}

// makeAides says what the further children are for.
func (s *supervisor) makeAides() {
	s.servers.prober.aide = s.newProber()
	s.console.aide = s.newConsole()
}

// leaveAides kills the further children, and reports whether all have ended.
func (s *supervisor) leaveAides() bool {
	ended := true
	for _, a := range s.aides() {
		ended = s.leaveAide(a) && ended
	}
	return ended
}

// aides returns the further children, those that aren't wanted included.
func (s *supervisor) aides() []*aide { return []*aide{&s.servers.prober.aide, &s.console.aide} }

func (s *supervisor) startAide(a *aide) {
	if a.leaving || a.end != nil || !a.wanted() {
		return
	}
	p := &aideEnd{of: a, born: s.env.now()}
	a.end = p
	p.setup = s.after(setupLimit, func() { s.dropAide(p, "it was not ready in time") })
	spec := a.spec()
	s.workers.spawning++
	elsewhere(s, func() (*started, error) { return s.env.start(spec) },
		func(st *started, err error) { s.onAideStarted(p, st, err) })
}

func (s *supervisor) onAideStarted(p *aideEnd, st *started, err error) {
	s.workers.spawning--
	defer s.checkStopped()
	defer s.reapStrays()
	if err != nil {
		s.log.Error(p.of.name+" can't be started", "error", err)
		s.aideGone(p)
		return
	}
	p.started = st
	st.listen(
		func(m ipc.Message, _ ...int) { s.arrive(arrival{aide: p, message: m}) },
		func(err error) { s.arrive(arrival{aide: p, err: err}) },
		func(how string) { s.post(func() { s.onAideExit(p, how) }) },
	)
	if p.dropped || p.of.leaving {
		p.dropped = true
		st.kill()
	}
}

// onAideHello configures a process that has said hello.
func (s *supervisor) onAideHello(p *aideEnd, version int) {
	if version != ipc.Version || p.greeted {
		s.dropAide(p, fmt.Sprintf("a wrong hello, of version %d", version))
		return
	}
	p.greeted = true
	s.tellAideLog(p)
	p.of.configure(p)
}

func (s *supervisor) onAideReady(p *aideEnd, confined, unconfined []string) {
	if !p.greeted || p.up {
		s.dropAide(p, "it is ready at the wrong time")
		return
	}
	s.timers.stop(p.setup)
	p.up = true
	s.log.Info(p.of.name+" is ready", "child", p.started.pid, "confined", strings.Join(confined, ", "))
	s.noteConfinement(&p.of.confined, p.of.name, confined, unconfined)
	p.of.onUp()
}

func (s *supervisor) sendAide(p *aideEnd, m ipc.Message, fds ...int) {
	if err := p.started.link.Send(m, fds...); err != nil {
		s.dropAide(p, err.Error())
	}
}

// dropAide kills the process. Everything else waits for its exit, because until then a
// prober may still reach a server.
func (s *supervisor) dropAide(p *aideEnd, why string) {
	if p.dropped {
		return
	}
	p.dropped, p.up = true, false
	if p.started != nil {
		s.log.Error(p.of.name+" is killed", "child", p.started.pid, "reason", why)
		p.started.kill()
	}
}

// replaceAide ends the process, whose configuration never changes. The next one gets the
// configuration now in effect.
func (s *supervisor) replaceAide(a *aide) {
	p := a.end
	if p == nil || p.dropped {
		return
	}
	p.dropped, p.up, p.done = true, false, true
	if p.started != nil {
		p.started.kill()
	}
}

// aideBroke ends a process whose message can't be true. It parses bytes of strangers, so
// one of them may have taken it over.
func (s *supervisor) aideBroke(p *aideEnd, what string) {
	s.log.Error(p.of.name+" broke the protocol", "child", p.started.pid, "what", what)
	s.dropAide(p, "protocol violation")
}

func (s *supervisor) onAideLinkEnd(p *aideEnd, err error) {
	if p.dropped {
		return
	}
	s.dropAide(p, "its link has ended: "+err.Error())
}

func (s *supervisor) onAideExit(p *aideEnd, how string) {
	if p.of.end != p {
		return
	}
	if p.of.leaving || p.done {
		s.log.Debug(p.of.name+" ended", "child", p.started.pid, "how", how)
	} else {
		s.log.Error(p.of.name+" ended", "child", p.started.pid, "how", how, "unanswered", p.of.unanswered())
	}
	s.aideGone(p)
}

// aideGone is the only place that removes the process of an aide from the supervisor's
// state.
func (s *supervisor) aideGone(p *aideEnd) {
	a := p.of
	p.dropped, p.up = true, false
	s.timers.stop(p.setup)
	if p.started != nil {
		p.started.close()
	}
	a.end = nil
	a.onDown()
	if a.leaving {
		s.checkStopped()
		return
	}
	if p.done {
		s.startAide(a)
		return
	}
	if s.env.now()-p.born >= restartStable {
		a.failures = 0
	}
	a.failures++
	s.after(backoff(a.failures), func() { s.startAide(a) })
}

// leaveAide kills the process, which has no state to save, and reports whether it has
// ended.
func (s *supervisor) leaveAide(a *aide) bool {
	p := a.end
	if p == nil || a.leaving {
		a.leaving = true
		return p == nil
	}
	a.leaving, p.dropped, p.up = true, true, false
	if p.started != nil {
		p.started.kill()
	}
	s.after(exitLimit, func() {
		if a.end == p {
			s.log.Error("a child can't be ended, and is left behind", "child", a.name)
			a.end = nil
			s.checkStopped()
		}
	})
	return false
}

// processID returns the id of the process, 0 for none.
func (a *aide) processID() int {
	if a.end == nil || a.end.started == nil {
		return 0
	}
	return a.end.started.pid
}
