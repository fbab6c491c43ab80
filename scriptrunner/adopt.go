package scriptrunner

import (
	"fmt"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// adoptLook is the pause between looks at what a dead runner has left running.
const adoptLook = 200 * time.Millisecond

// adopted is a run of a runner before this one that nobody has seen the end of.
// Its script is no child of ours: what is known of it is in the record, and
// that its session and group are empty is all that can be seen of its end.
type adopted struct {
	entry
	termed time.Time // when SIGTERM was sent
}

// adopt takes over what the record shows as unfinished.
func (r *runner) adopt() {
	for _, e := range r.record.unfinished() {
		if e.PID == 0 {
			r.findLeader(&e)
		}
		r.log.Warn("a run of a runner before this one has no known end", "run_id", e.ID, "hook", e.Hook, "pid", e.PID)
		r.adopted = append(r.adopted, &adopted{entry: e})
	}
	r.lookAtAdopted()
}

// findLeader looks for the script of a runner that died between its start and
// the line about it. Not even the script can have taken its mark off by then.
func (r *runner) findLeader(e *entry) {
	boot, err := proc.BootID()
	if err != nil || boot != e.Boot {
		return
	}
	l, ok, err := proc.MarkedLeader(runVariable, e.ID)
	if err != nil {
		r.log.Error("processes of the script can't be listed", "run_id", e.ID, "error", err)
	}
	if ok {
		e.PID, e.Start = l.PID, l.Start
		r.write(*e)
	}
}

// write puts a run into the record.
func (r *runner) write(e entry) {
	if err := r.record.put(e); err != nil {
		r.log.Warn("the run is kept in memory alone", "run_id", e.ID, "error", err)
	}
}

// nextLook is nil without adopted runs, which a select never chooses.
func (r *runner) nextLook() <-chan time.Time {
	if len(r.adopted) == 0 {
		return nil
	}
	return r.look.C
}

// lookAtAdopted drops the runs of which nothing is left, and ends those whose
// time is over.
func (r *runner) lookAtAdopted() {
	if len(r.adopted) == 0 {
		return
	}
	var left []*adopted
	for _, a := range r.adopted {
		if a.over() || r.overdue(a) {
			r.endAdopted(a)
			continue
		}
		left = append(left, a)
	}
	changed := len(left) < len(r.adopted)
	r.adopted = left
	if len(left) > 0 {
		r.look.Reset(adoptLook)
	}
	if changed {
		r.status()
	}
}

// over says that nothing of the run is left. One that is being ended isn't over
// before what has left its session is gone as well.
func (a *adopted) over() bool {
	if a.PID == 0 {
		return true
	}
	if !a.leader().Gone() {
		return false
	}
	if a.termed.IsZero() {
		return true
	}
	marked, err := proc.Marked(runVariable, a.ID)
	return err == nil && len(marked) == 0
}

// overdue ends a run after its time-out, as its own runner would have. It
// reports whether that is given up.
func (r *runner) overdue(a *adopted) bool {
	delay := time.Duration(a.KillDelay) * time.Millisecond
	switch {
	case proc.SinceBoot() < time.Duration(a.Deadline)*time.Millisecond:
		return false
	case a.termed.IsZero():
		a.termed = time.Now()
		r.log.Error("the script has overrun its time", "run_id", a.ID, "hook", a.Hook)
		r.signalAdopted(a, syscall.SIGTERM)
	case time.Since(a.termed) < delay:
		return false
	case time.Since(a.termed) < delay+unkillable:
		r.signalAdopted(a, syscall.SIGKILL)
	default:
		r.log.Error("processes of the script can't be ended", "run_id", a.ID, "hook", a.Hook)
		return true
	}
	return false
}

// signalAdopted reaches the session and the group, and what has left both but
// keeps the mark of the run.
func (r *runner) signalAdopted(a *adopted, sig syscall.Signal) {
	members, err := a.leader().Members()
	if err != nil {
		r.log.Error("processes of the script can't be listed", "run_id", a.ID, "error", err)
	}
	marked, err := proc.Marked(runVariable, a.ID)
	if err != nil {
		r.log.Error("processes of the script can't be listed", "run_id", a.ID, "error", err)
	}
	done := map[string]bool{}
	for _, p := range append(members, marked...) {
		if done[p.Key()] {
			continue
		}
		done[p.Key()] = true
		if err := p.Signal(sig); err != nil {
			r.log.Error("a process of the script can't be ended", "run_id", a.ID, "error", err)
		}
	}
}

// endAdopted reports the end of a run: how it ended if its own runner has lived
// to write that down, and else that nobody knows.
func (r *runner) endAdopted(a *adopted) {
	if _, err := r.record.read(); err != nil {
		r.log.Error("the record of runs can't be read again", "error", err)
	}
	end := &ipc.RunEnded{RunID: a.ID, Hook: a.Hook, Exit: -1, TimedOut: !a.termed.IsZero(), Unknown: true}
	if e := r.record.find(a.ID); e != nil && e.End != nil {
		end = e.End
	} else {
		a.End = end
		r.write(a.entry)
	}
	r.log.Warn("nothing is left of a run of a runner before this one", "run_id", a.ID, "hook", a.Hook, "unknown", end.Unknown)
	r.keep(*end)
	r.report(end)
}

// unfinishedRun is an error while a run of a runner before this one goes on.
func (r *runner) unfinishedRun() error {
	r.lookAtAdopted()
	if len(r.adopted) == 0 {
		return nil
	}
	return fmt.Errorf("run %s, which a runner before this one has started, is still in progress", r.adopted[0].ID)
}
