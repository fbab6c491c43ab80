package health

import (
	"context"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// defaultTimeout is the default of failover_probe_timeout.
	defaultTimeout = 2 * time.Second
	// knockUser is the user in a start-up packet whose only purpose is to make the
	// server answer.
	knockUser = "pgagroal"
	// applicationName is the application_name of a probe's sessions.
	applicationName = "pgagroal probe"
)

// Probe looks at t once and returns within t.Timeout, or at once when ctx ends.
//
// SyncStandbys of the answer are application_names of standbys as the primary shows them. SenderHost and SenderPort are
// what a standby shows of its primary. The supervisor maps both to configured servers. If this machine couldn't make the
// probe (ctx cancelled, no descriptor left, a socket that may not be opened), the outcome is SawNothing with the reason
// as Code.
func Probe(ctx context.Context, t Target) ipc.ProbeDone {
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	p := prober{ctx: bounded, target: t}
	v := p.run()
	return ipc.ProbeDone{ID: t.ID, Outcome: v.outcome, Code: v.code, Words: v.words, Obs: v.obs, Version: v.version}
}

// verdict is the result of a probe, or of one of its connections.
type verdict struct {
	outcome ipc.Outcome
	code    string
	words   string // what is wrong with TLS or with the method that the server asks for, for the operator
	obs     ipc.Observation
	version string
	next    bool // this login failed, but another one may succeed
}

// prober is one probe in progress, in one goroutine.
type prober struct {
	ctx    context.Context
	target Target
}

func (p *prober) run() verdict {
	if p.target.Address == "" {
		return verdict{outcome: ipc.SawNothing}
	}
	if len(p.target.Logins) == 0 {
		return p.knock()
	}
	var refused *verdict
	for _, l := range p.target.Logins {
		v := p.try(l)
		// A server that has just refused a login isn't silent, even if no time was left for the next
		// login.
		if refused != nil && runOutOfTime(v.outcome) {
			return *refused
		}
		if !v.next {
			return v
		}
		refused = &v
	}
	return *refused
}

// runOutOfTime reports whether a probe ended without any new answer of the server.
func runOutOfTime(o ipc.Outcome) bool {
	return o == ipc.SawTimeout || o == ipc.SawSilent || o == ipc.SawUnreachable || o == ipc.SawNothing
}

// knock sends a start-up packet to see whether the server answers; any answer will do.
func (p *prober) knock() verdict {
	s, err := p.open()
	if err != nil {
		return p.judge(s, err)
	}
	defer s.close()
	if err := s.startUp(Login{User: knockUser, Database: "postgres"}); err != nil {
		return p.judge(s, err)
	}
	typ, body, err := s.read()
	switch {
	case err != nil:
		return p.judge(s, err)
	case typ == 'E':
		return judgeCode(serverError(body))
	}
	return verdict{outcome: ipc.SawAlive, code: codeNoLogin}
}

// try looks at the server as one user.
func (p *prober) try(l Login) verdict {
	s, err := p.login(l)
	if err != nil {
		return p.judge(s, err)
	}
	defer s.close()
	r, err := s.observe()
	if err != nil {
		v := p.judge(s, err)
		if r == nil || overrules(v.outcome) {
			return v
		}
	}
	outcome := ipc.SawPrimary
	if r.standby {
		outcome = ipc.SawStandby
		if r.mayReplicate {
			p.identify(l, r)
		}
	}
	return verdict{outcome: outcome, obs: r.observation(), version: s.version}
}

// overrules reports whether an outcome outweighs the role that the server reported a moment ago.
func overrules(o ipc.Outcome) bool {
	return o == ipc.SawRefused || o == ipc.SawStarting || o == ipc.SawShutdown
}

// login opens a session. After an error the session is closed already, or nil if there was no
// connection.
func (p *prober) login(l Login, more ...string) (*session, error) {
	s, err := p.open()
	if err != nil {
		return s, err
	}
	err = s.startUp(l, more...)
	if err == nil {
		err = s.authenticate(l)
	}
	if err != nil {
		s.close()
	}
	return s, err
}

// identify asks a standby for its timeline over a replication connection, which may take half of the remaining
// time. If that fails, the lower bound from the first connection stays.
func (p *prober) identify(l Login, r *reading) {
	ctx, cancel := context.WithTimeout(p.ctx, remaining(p.ctx)/2)
	defer cancel()
	second := prober{ctx: ctx, target: p.target}
	s, err := second.login(l, "replication", "true")
	if err != nil {
		return
	}
	defer s.close()
	s.ask("IDENTIFY_SYSTEM")
	if rows, err := s.answer(); err == nil {
		r.identify(rows)
	}
}

// remaining is the time until the deadline of ctx.
func remaining(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return defaultTimeout
	}
	return time.Until(deadline)
}
