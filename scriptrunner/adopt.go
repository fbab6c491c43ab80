package scriptrunner

import (
	"fmt"
	"syscall"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// adoptLook is the pause between checks of what a dead runner has left running.
const adoptLook = 200 * time.Millisecond

// adopted is a run of an earlier runner whose end is not recorded. Its script is no
// child of this process. What is known of it comes from the record. Its end shows only
// in that its session and group are empty.
type adopted struct {
	entry
	termed time.Time // when SIGTERM was sent
}

// adopt takes over the runs that the record shows as unfinished.
func (r *runner) adopt() {
	for _, e := range r.record.unfinished() {
		if e.PID == 0 {
			r.findLeader(&e)
		}
		r.log.Warn("an earlier script runner left a run whose end is not recorded", "run_id", e.ID, "hook", e.Hook, "pid", e.PID)
		r.adopted = append(r.adopted, &adopted{entry: e})
	}
	r.lookAtAdopted()
}

// findLeader looks for the script of a runner that died between starting it and
// recording its process id. It finds the script by the run's id in its environment: in so
// short a time the script can't have removed that.
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

// nextLook returns nil without adopted runs, because a select never chooses a nil channel.
func (r *runner) nextLook() <-chan time.Time {
	if len(r.adopted) == 0 {
		return nil
	}
	return r.look.C
}

// lookAtAdopted reports the runs that are over and drops them, and ends the processes of
// runs that have reached their time-out.
func (r *runner) lookAtAdopted() {
	if len(r.adopted) == 0 {
		return
	}
	var left []*adopted
	for _, a := range r.adopted {
		switch {
		case a.over():
			r.endAdopted(a, "no process is left of a run that an earlier script runner started")
			continue
		case r.overdue(a):
			r.endAdopted(a, "a run that an earlier script runner started is given up, and processes of it are left")
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

// over reports whether no process of the run is left. For a run that is being ended,
// this includes processes that have left its session.
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

// overdue ends a run after its time-out, as its own runner would have done. It reports
// whether it has given up on processes that can't be ended.
func (r *runner) overdue(a *adopted) bool {
	delay := time.Duration(a.KillDelay) * time.Millisecond
	switch {
	case proc.SinceBoot() < time.Duration(a.Deadline)*time.Millisecond:
		return false
	case a.termed.IsZero():
		a.termed = time.Now()
		if !a.Check { // a check has no time left, because nobody waits for it
			r.log.Error("the script has overrun its time", "run_id", a.ID, "hook", a.Hook)
		}
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

// signalAdopted signals the session and the group, and processes that have left both
// but keep the mark of the run.
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

// endAdopted logs why and reports the end of a run: how it ended, if its own runner has recorded
// that, otherwise that this is unknown.
func (r *runner) endAdopted(a *adopted, why string) {
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
	r.log.Warn(why, "run_id", a.ID, "hook", a.Hook, "unknown", end.Unknown)
	if !a.Check {
		r.keep(*end)
	}
	r.report(end)
}

// unfinishedRun returns an error while a run of an earlier runner goes on.
func (r *runner) unfinishedRun() error {
	r.lookAtAdopted()
	if len(r.adopted) == 0 {
		return nil
	}
	return fmt.Errorf("run %s, which a runner before this one has started, is still in progress", r.adopted[0].ID)
}
