package supervisor

import (
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// hookCheckLimit is how long the runner may take for one check of a script: it ends the script after 20 s, and
	// kills what is left.
	hookCheckLimit = 26 * time.Second
	hookCheckLines = 64 // of the output of a check
)

// hookCheck is a script in progress that runs with PGAGROAL_CHECK=1, for a rehearsal.
type hookCheck struct {
	id    string
	words []string
	limit *timer
	// done gets the end, or nil and the reason why the end isn't known.
	done func(end *ipc.RunEnded, why string)
}

// checkScripts has the scripts that would run check themselves, one after the other, beginning with run i. Then it answers
// the rehearsal.
func (s *supervisor) checkScripts(r *rehearsal, i int) {
	if i == len(r.Runs) {
		r.done(s.rehearsalResponse(r), nil)
		return
	}
	run := &r.Runs[i]
	if why := s.noHookCheck(run.Hook); why != "" {
		r.checks = append(r.checks, control.HookCheck{Result: "not run: " + why})
		s.checkScripts(r, i+1)
		return
	}
	e := s.runner.end
	s.runner.checks++
	c := &hookCheck{id: fmt.Sprintf("check-%x-%d", int64(s.env.sinceBoot()), s.runner.checks)}
	s.runner.check = c
	c.limit = s.after(hookCheckLimit, func() {
		s.endHookCheck(c.id, nil, fmt.Sprintf("the script runner has not answered within %v", hookCheckLimit))
	})
	c.done = func(end *ipc.RunEnded, why string) {
		r.tell(run.Hook, c.words, end, why, s.runner.current != nil)
		s.checkScripts(r, i+1)
	}
	s.log.Debug("script is checked", "run", c.id, "hook", run.Hook)
	s.sendRunner(e, &ipc.CheckRun{
		RunID: c.id, Hook: run.Hook, Args: run.Args, Env: unprefixed(run.Env), Expires: (s.env.sinceBoot() + runExpiry).Milliseconds(),
	})
}

// noHookCheck returns why a script isn't executed for a check.
func (s *supervisor) noHookCheck(hook string) string {
	e := s.runner.end
	switch {
	case e == nil || !e.up:
		return "no script can run"
	case e.problems[hook] != "":
		return "it would be refused"
	case !e.knowsCheck[hook]:
		return "it doesn't declare that it knows PGAGROAL_CHECK"
	case s.runner.current != nil:
		return "a script runs"
	case s.runner.check != nil:
		return "another rehearsal checks a script"
	}
	return ""
}

// tell adds the result of a check to the rehearsal.
func (r *rehearsal) tell(hook string, words []string, end *ipc.RunEnded, why string, run bool) {
	result := control.HookCheck{Words: words}
	switch {
	case end == nil:
		result.Result = "unknown: " + why
	case end.Refused != "":
		result.Result = "not run: " + end.Refused
	case end.Exit == 0:
		result.Result = "passed"
	case end.Signal != "" && run:
		result.Result = "unknown: it was ended because a script had to run"
	case end.TimedOut:
		result.Result = "failed: it took too long"
	case end.Signal != "":
		result.Result = "failed: " + end.Signal
	default:
		result.Result = fmt.Sprintf("failed: exit code %d", end.Exit)
	}
	r.checks = append(r.checks, result)
	switch {
	case result.Failed():
		last := ""
		if len(words) > 0 {
			last = ": " + words[len(words)-1]
		}
		r.found(true, "", "read what it says, in Runs", "the %s script says that it couldn't do its work (%s)%s", hook, result.Result, last)
	case result.Result != "passed":
		r.found(false, "", "", "whether the %s script could do its work is unknown: %s", hook, result.Result)
	}
}

// endHookCheck ends the check with this id, if it is the one in progress.
func (s *supervisor) endHookCheck(id string, end *ipc.RunEnded, why string) bool {
	c := s.runner.check
	if c == nil || c.id != id {
		return false
	}
	s.runner.check = nil
	s.timers.stop(c.limit)
	c.done(end, why)
	return true
}

// loseHookCheck ends the check when the link to the runner has ended. The runner ends the script by itself.
func (s *supervisor) loseHookCheck() {
	if c := s.runner.check; c != nil {
		s.endHookCheck(c.id, nil, "the script runner is gone")
	}
}

// saidByCheck keeps a line that a check has written.
func (s *supervisor) saidByCheck(m *ipc.RunOutput) bool {
	c := s.runner.check
	if c == nil || c.id != m.RunID {
		return false
	}
	if len(c.words) < hookCheckLines {
		c.words = append(c.words, m.Line)
	}
	s.log.Debug("script says", "run", m.RunID, "line", m.Line)
	return true
}
