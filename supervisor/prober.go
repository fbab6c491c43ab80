package supervisor

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// proberEnd is one process of the prober. When it has ended, another one is started.
//
//	starting --hello, ready--> up --killed, link ended--> dropped --exit--> (proberGone)
type proberEnd struct {
	started *started // nil while starting
	born    time.Duration
	setup   *timer
	greeted bool // has said hello
	up      bool // takes requests
	dropped bool // SIGKILL was sent: its messages are ignored
	done    bool // another prober with a new configuration takes its place
}

// prober is the supervisor's side of the process that looks at servers; looks.go sends it
// requests.
type prober struct {
	end      *proberEnd // nil between two processes
	failures int        // deaths in a row
	confined confinement
	leaving  bool // pgagroal ends and doesn't need it any more
	looks    looks
}

func (s *supervisor) startProber() {
	if s.servers.prober.leaving {
		return
	}
	p := &proberEnd{born: s.env.now()}
	s.servers.prober.end = p
	p.setup = s.after(setupLimit, func() { s.dropProber(p, "it was not ready in time") })
	spec := startSpec{
		role: proc.RoleProber, argv0: "pgagroal: prober", peer: ipc.RoleProber,
		lock: s.dir.Lock, queue: queueLimit + len(s.serverTLS),
	}
	s.workers.spawning++
	elsewhere(s, func() (*started, error) { return s.env.start(spec) },
		func(st *started, err error) { s.onProberStarted(p, st, err) })
}

func (s *supervisor) onProberStarted(p *proberEnd, st *started, err error) {
	s.workers.spawning--
	defer s.checkStopped()
	defer s.reapStrays()
	if err != nil {
		s.log.Error("prober can't be started", "error", err)
		s.proberGone(p)
		return
	}
	p.started = st
	st.listen(
		func(m ipc.Message, _ ...int) { s.arrive(arrival{prober: p, message: m}) },
		func(err error) { s.arrive(arrival{prober: p, err: err}) },
		func(how string) { s.post(func() { s.onProberExit(p, how) }) },
	)
	if p.dropped || s.servers.prober.leaving {
		p.dropped = true
		st.kill()
	}
}

func (s *supervisor) onProberHello(p *proberEnd, m *ipc.ProberHello) {
	if m.Version != ipc.Version || p.greeted {
		s.dropProber(p, fmt.Sprintf("a wrong hello, of version %d", m.Version))
		return
	}
	p.greeted = true
	c := &ipc.ProberConfigure{LogLevel: int(logline.Level(s.cfg.LogLevel)), LogLinePrefix: s.cfg.LogLinePrefix}
	for _, sv := range s.cfg.Servers {
		if strings.HasPrefix(sv.Host, "/") {
			c.SocketDirs = append(c.SocketDirs, path.Clean(sv.Host))
		} else {
			c.Ports = append(c.Ports, uint16(sv.Port))
		}
	}
	for _, part := range s.serverTLS {
		s.sendProber(p, &ipc.ProberTLS{Part: part})
	}
	s.sendProber(p, c)
}

func (s *supervisor) onProberReady(p *proberEnd, m *ipc.ProberReady) {
	if !p.greeted || p.up {
		s.dropProber(p, "it is ready at the wrong time")
		return
	}
	s.timers.stop(p.setup)
	p.up = true
	s.log.Info("prober is ready", "child", p.started.pid, "confined", strings.Join(m.Confined, ", "))
	s.noteConfinement(&s.servers.prober.confined, "prober", m.Confined, m.Unconfined)
	s.sendLooks()
}

func (s *supervisor) sendProber(p *proberEnd, m ipc.Message) {
	if err := p.started.link.Send(m); err != nil {
		s.dropProber(p, err.Error())
	}
}

// dropProber kills the process. Everything else waits for its exit, because until then it
// may still reach a server.
func (s *supervisor) dropProber(p *proberEnd, why string) {
	if p.dropped {
		return
	}
	p.dropped, p.up = true, false
	if p.started != nil {
		s.log.Error("prober is killed", "child", p.started.pid, "reason", why)
		p.started.kill()
	}
}

// replaceProber ends the prober, whose configuration never changes. The next one gets the
// configuration now in effect.
func (s *supervisor) replaceProber() {
	p := s.servers.prober.end
	if p == nil || p.dropped {
		return
	}
	p.dropped, p.up, p.done = true, false, true
	if p.started != nil {
		p.started.kill()
	}
}

func (s *supervisor) onProberLinkEnd(p *proberEnd, err error) {
	if p.dropped {
		return
	}
	s.dropProber(p, "its link has ended: "+err.Error())
}

func (s *supervisor) onProberExit(p *proberEnd, how string) {
	if s.servers.prober.end != p {
		return
	}
	if s.servers.prober.leaving || p.done {
		s.log.Debug("prober ended", "child", p.started.pid, "how", how)
	} else {
		s.log.Error("prober ended", "child", p.started.pid, "how", how, "unanswered", len(s.servers.prober.looks.sent))
	}
	s.proberGone(p)
}

var errProberEnded = errors.New("the prober has ended meanwhile")

// proberGone is the only place that removes a prober from the supervisor's state. Its
// looks fail, which says nothing about their servers. They aren't repeated here, because
// the answer of a server may have ended the prober.
func (s *supervisor) proberGone(p *proberEnd) {
	p.dropped, p.up = true, false
	s.timers.stop(p.setup)
	if p.started != nil {
		p.started.close()
	}
	s.servers.prober.end = nil
	s.failLooks(errProberEnded)
	if s.servers.prober.leaving {
		s.checkStopped()
		return
	}
	if p.done {
		s.startProber()
		return
	}
	if s.env.now()-p.born >= restartStable {
		s.servers.prober.failures = 0
	}
	s.servers.prober.failures++
	s.after(backoff(s.servers.prober.failures), s.startProber)
}

// leaveProber kills the prober, which has no state to save, and reports whether it has
// ended.
func (s *supervisor) leaveProber() bool {
	p := s.servers.prober.end
	if p == nil || s.servers.prober.leaving {
		s.servers.prober.leaving = true
		return p == nil
	}
	s.servers.prober.leaving, p.dropped, p.up = true, true, false
	if p.started != nil {
		p.started.kill()
	}
	s.after(exitLimit, func() {
		if s.servers.prober.end == p {
			s.log.Error("the prober can't be ended, and is left behind")
			s.servers.prober.end = nil
			s.checkStopped()
		}
	})
	return false
}

// processID returns the process id of the prober, 0 for none.
func (p *prober) processID() int {
	if p.end == nil || p.end.started == nil {
		return 0
	}
	return p.end.started.pid
}

// proberBroke ends a prober whose answer can't be true. The prober parses what servers
// send, so a server may have taken it over.
func (s *supervisor) proberBroke(p *proberEnd, what string) {
	s.log.Error("prober broke the protocol", "child", p.started.pid, "what", what)
	s.dropProber(p, "protocol violation")
}

// maxSyncStandbys is how many names of synchronous standbys a probe reports at most.
const maxSyncStandbys = 64

// claimOfProbe checks that an answer of the prober has known values and bounded texts.
// Nobody can check whether it is true.
func claimOfProbe(m *ipc.ProbeDone) string {
	o := &m.Obs
	long := func(t string) bool { return len(t) > ipc.MaxServerText }
	switch {
	case m.Outcome < ipc.SawPrimary || m.Outcome > ipc.SawShutdown || o.Receiver > ipc.ReceiverStreaming:
		return "an outcome or a state of a WAL receiver that doesn't exist"
	case len(o.SyncStandbys) > maxSyncStandbys || slices.ContainsFunc(o.SyncStandbys, long):
		return "more or longer names of synchronous standbys than a probe reports"
	case slices.ContainsFunc([]string{m.Code, m.Words, m.Version, o.ReceiverWord, o.SlotName, o.SenderHost, o.SenderPort}, long):
		return "a text that is longer than a probe reports"
	}
	return ""
}
