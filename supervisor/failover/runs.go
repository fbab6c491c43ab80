package failover

import "time"

// runs is what has been run, what runs, and what must have ended before anything else may. Only its own methods write it.
type runs struct {
	*counter
	current *run          // under way
	last    *ended        // the run, or the lack of one, that a hold is about
	blocker string        // run whose process group has not been seen empty
	pending int           // candidate of a strict verification, else -1
	cut     bool          // the recorded primary was cut off by failover_fence_script, and hasn't answered since
	cutAt   time.Duration // when
	count   uint64        // of the runs of this process
	times   []int64       // when the failovers in failover_window began, Unix milliseconds
	locked  bool          // failover_max was reached: no run until Reset
}

func (r *runs) begin(run *run) {
	r.assertIdle("begins")
	r.current = run
	r.count++
	r.changed()
}

// assertIdle: at most one run is under way, and none beside one that may not be over.
func (r *runs) assertIdle(what string) {
	if r.current != nil || r.blocker != "" {
		panic("failover: a run " + what + " while another one may not have ended")
	}
}

// stop notes that the runner was told to end the run.
func (r *runs) stop() { assign(r.counter, &r.current.stop, true) }

// end takes the run that is under way out, and returns it.
func (r *runs) end() *run {
	ended := r.current
	r.current = nil
	r.changed()
	return ended
}

// lose ends the run without a known outcome: it blocks others until free is called.
func (r *runs) lose() *run {
	lost := r.end()
	r.blocker = lost.id
	return lost
}

// free says that nothing of the lost run is left.
func (r *runs) free() { assign(r.counter, &r.blocker, "") }

// leave notes that processes of the run that the hold is about may go on.
func (r *runs) leave(id string) {
	if r.last != nil && r.last.id == id {
		assign(r.counter, &r.last.left, true)
	}
}

// conclude keeps what the coming hold, or verification, is about.
func (r *runs) conclude(e ended) {
	r.last = &e
	r.changed()
}

// forget ends what was about the recorded primary: the run that a hold is about, and that it was cut off.
func (r *runs) forget() {
	if r.last != nil || r.cut {
		r.last, r.cut = nil, false
		r.changed()
	}
}

// verify waits for the candidate of a run that has ended well to be seen writable; settled ends that.
func (r *runs) verify(run *run) {
	r.pending = run.next
	r.conclude(ended{hold: holdLost, id: run.id, old: run.old, next: run.next, why: "exit 0, not verified"})
}

func (r *runs) settled() { assign(r.counter, &r.pending, -1) }

func (r *runs) cutOff(now time.Duration) {
	r.cut, r.cutAt = true, now
	r.changed()
}

func (r *runs) uncut() { assign(r.counter, &r.cut, false) }

// attempt counts a failover whose scripts begin.
func (r *runs) attempt(at int64) {
	r.times = append(r.times, at)
	r.changed()
}

// forgetBefore drops the failovers that the window doesn't reach any more.
func (r *runs) forgetBefore(begin int64) {
	n := 0
	for _, at := range r.times {
		if at > begin {
			r.times[n] = at
			n++
		}
	}
	r.times = r.times[:n]
}

func (r *runs) lock() { assign(r.counter, &r.locked, true) }

// reset counts the failovers anew.
func (r *runs) reset() {
	r.times, r.locked = nil, false
	r.changed()
}

// restore takes over what the record says; a run that was under way may not be over.
func (r *runs) restore(rec *Record) {
	r.locked, r.times, r.blocker = rec.Locked, append([]int64(nil), rec.RunTimes...), rec.Blocker
	if rec.Run != nil && rec.Run.Phase == "started" {
		r.blocker = rec.Run.ID
	}
	r.changed()
}

// runner is whether a script could be started now. Only its own methods write it.
type runner struct {
	*counter
	up      bool
	why     string // it isn't
	allowed bool   // state_dir is ours alone
	holder  string // who holds it instead, as far as known
}

func (r *runner) link(up bool, why string) {
	assign(r.counter, &r.up, up)
	assign(r.counter, &r.why, why)
}

func (r *runner) allow(allowed bool, holder string) {
	assign(r.counter, &r.allowed, allowed)
	assign(r.counter, &r.holder, holder)
}

// holders says who holds state_dir.
func (r *runner) holders() string {
	if r.holder == "" {
		return "children of an earlier supervisor hold state_dir"
	}
	return "left over from an earlier supervisor, " + r.holder + " holds state_dir"
}
