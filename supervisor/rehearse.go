package supervisor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// hooksLimit is how long the runner has to check its scripts.
const hooksLimit = 5 * time.Second

// rehearsed are the parameters that a rehearsal reads.
var rehearsed = []string{
	"wal_receiver_timeout", "wal_retrieve_retry_interval", "recovery_min_apply_delay", "recovery_target_timeline",
	"synchronous_standby_names", "synchronous_commit",
}

// rehearsal is a rehearsal in progress. It has the machine's findings already and waits
// for the answers of the servers and the runner.
type rehearsal struct {
	*failover.Rehearsal
	settings map[int]map[string]string // by server, nil when they can't be read
	checks   []control.HookCheck       // of the scripts of Runs
	late     bool                      // the runner has not checked its scripts in time
	waiting  int                       // answers that are missing
	done     func(control.RehearsalResponse, error)
}

// FailoverRehearse returns what a failover would do now, and changes nothing.
func (o operator) FailoverRehearse(ctx context.Context) (control.RehearsalResponse, error) {
	s := o.s
	return ask(ctx, s, func(answer func(control.RehearsalResponse, error)) {
		s.servers.nextTag++
		tag := s.servers.nextTag
		s.servers.replies[tag] = func(r failover.Reply) {
			if r.Err != nil {
				answer(control.RehearsalResponse{}, r.Err)
				return
			}
			s.rehearse(&rehearsal{Rehearsal: r.Rehearsal, done: answer})
		}
		s.feed(failover.Rehearse{Tag: tag})
	})
}

// rehearse asks the servers for their settings and has the runner check its scripts.
func (s *supervisor) rehearse(r *rehearsal) {
	r.settings = map[int]map[string]string{}
	r.waiting = 1
	for i := range s.cfg.InSlots() {
		if len(s.addressesOf(i)) == 0 {
			continue
		}
		r.waiting++
		lookAround(s, i, s.cfg.FailoverProbeTimeout,
			func(id uint64, t ipc.Target) ipc.Message {
				return &ipc.SettingsRequest{ID: id, Target: t, Names: rehearsed}
			},
			func(m *ipc.SettingsDone) string { return m.Error },
			func(m *ipc.SettingsDone, err error) {
				if err == nil {
					r.settings[i] = m.Values
				}
				s.rehearsedPart(r)
			})
	}
	s.checkHooks(func(late bool) {
		r.late = late
		s.rehearsedPart(r)
	})
}

func (s *supervisor) rehearsedPart(r *rehearsal) {
	if r.waiting--; r.waiting > 0 {
		return
	}
	s.findRunner(r)
	for i := range s.cfg.InSlots() {
		s.findSettings(r, i)
	}
	s.checkScripts(r, 0)
}

// checkHooks has the runner check its scripts, and calls done when it has; late says
// that it took too long. If there is no runner, done is called at once: the machine has
// reported that already.
func (s *supervisor) checkHooks(done func(late bool)) {
	e := s.runner.end
	if e == nil || e.gone || e.ready == nil {
		done(false)
		return
	}
	s.runner.checks++
	id := s.runner.checks
	if s.runner.checked == nil {
		s.runner.checked = map[uint64]func(bool){}
	}
	limit := s.after(hooksLimit, func() { s.hooksChecked(id, true) })
	s.runner.checked[id] = func(late bool) {
		s.timers.stop(limit)
		done(late)
	}
	s.sendRunner(e, &ipc.CheckHooks{ID: id})
}

func (s *supervisor) hooksChecked(id uint64, late bool) {
	if f := s.runner.checked[id]; f != nil {
		delete(s.runner.checked, id)
		f(late)
	}
}

// onHooksChecked records what is wrong with the scripts now, and tells the machine,
// because a run would be refused for it.
func (s *supervisor) onHooksChecked(r *runnerEnd, m *ipc.HooksChecked) {
	s.hearRunner(r, m)
	if r.spawned {
		s.console.figures.logged.add(&r.logged, m.Logged)
	}
	r.takeProblems(m.Hooks)
	s.judgeRunner(r)
	s.hooksChecked(m.ID, false)
}

func (r *runnerEnd) takeProblems(hooks []ipc.HookCheck) {
	r.problems, r.knowsCheck = map[string]string{}, map[string]bool{}
	for _, h := range hooks {
		r.knowsCheck[h.Hook] = h.KnowsCheck
		if h.Problem != "" {
			r.problems[h.Hook] = h.Problem
		}
	}
}

func (r *rehearsal) found(grave bool, server, hint, format string, args ...any) {
	f := failover.Finding{Server: server, Text: fmt.Sprintf(format, args...), Hint: hint, Grave: grave}
	if !slices.Contains(r.Findings, f) {
		r.Findings = append(r.Findings, f)
	}
}

// findRunner checks the runner, and the state_dir where runs are recorded.
func (s *supervisor) findRunner(r *rehearsal) {
	if r.late {
		r.found(true, "", "", "the script runner has not answered within %v: a failover would be given up %v after it has asked for a script", hooksLimit, runExpiry)
	}
	if e := s.runner.end; e != nil {
		for _, hook := range []string{failover.HookFence, failover.HookFailover, failover.HookNotify} {
			if why := e.problems[hook]; why != "" {
				r.found(true, "", "", "the %s script would be refused: %s", hook, why)
			}
		}
	}
	if !s.dir.Usable || s.saver.failed != nil {
		r.found(true, "", "", "state_dir can't be written, so a restart would not know of the failover")
	}
}

// findSettings checks the parameters of one server.
func (s *supervisor) findSettings(r *rehearsal, i int) {
	set, name := r.settings[i], s.serverName(i)
	if set == nil || name == r.Primary {
		return // the machine has reported that the server can't be reached, or that probes can't log in
	}
	for _, f := range StandbyFindings(name, set, name == r.Next, len(s.cfg.Servers)) {
		r.found(f.Grave, f.Server, f.Hint, "%s", f.Text)
	}
}

func (s *supervisor) rehearsalResponse(r *rehearsal) control.RehearsalResponse {
	out := control.RehearsalResponse{Well: true, Primary: r.Primary, Next: r.Next}
	scripts := map[string]string{
		failover.HookFailover: s.cfg.FailoverScript, failover.HookNotify: s.cfg.FailoverNotifyScript, failover.HookFence: s.cfg.FailoverFenceScript,
	}
	for i, x := range r.Runs {
		out.Runs = append(out.Runs, control.RehearsedRun{Hook: x.Hook, Script: scripts[x.Hook], Args: x.Args, Check: &r.checks[i]})
	}
	for _, v := range r.Candidates {
		out.Candidates = append(out.Candidates, control.RehearsedServer{Server: v.Name, Timeline: v.Timeline, LSN: v.LSN, Verdict: v.Verdict})
	}
	for _, f := range r.Findings {
		c := control.Finding{Server: f.Server, Text: f.Text, Hint: f.Hint}
		if f.Grave {
			out.Well = false
			out.Problems = append(out.Problems, c)
		} else {
			out.Warnings = append(out.Warnings, c)
		}
	}
	return out
}
