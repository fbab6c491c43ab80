package failover

import "time"

// runs holds the run in progress, the last one, and what must have ended before another may start. Only its own methods
// write it.
type runs struct {
	*counter
	current *run          // in progress, nil for none
	last    *ended        // what a hold is about: a run, or that none was started
	blocker string        // id of a run that may still have processes
	pending int           // candidate whose promotion is verified strictly, else -1
	cut     bool          // the recorded primary was cut off by failover_fence_script, and hasn't answered since
	cutAt   time.Duration // when
	count   uint64        // how many runs this process has started
	times   []int64       // when the failovers in failover_window began, Unix milliseconds
	locked  bool          // failover_max was reached: no run until Reset
}

func (r *runs) begin(run *run) {
	r.assertIdle("begins")
	r.current = run
	r.count++
	r.changed()
}

// assertIdle asserts that no run is in progress, and that no lost run may still have processes.
func (r *runs) assertIdle(what string) {
	if r.current != nil || r.blocker != "" {
		panic("failover: a run " + what + " while another one may not have ended")
	}
}

// stop records that the runner was told to end the run.
func (r *runs) stop() { assign(r.counter, &r.current.stop, true) }

// end removes the run in progress, and returns it.
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

// free records that no process of the lost run is left.
func (r *runs) free() { assign(r.counter, &r.blocker, "") }

// leave records that processes of a run may go on, if the hold is about this run.
func (r *runs) leave(id string) {
	if r.last != nil && r.last.id == id {
		assign(r.counter, &r.last.left, true)
	}
}

// conclude keeps what the next hold, or verification, is about.
func (r *runs) conclude(e ended) {
	r.last = &e
	r.changed()
}

// forget drops what concerned the recorded primary: the run that a hold is about, and the cut.
func (r *runs) forget() {
	if r.last != nil || r.cut {
		r.last, r.cut = nil, false
		r.changed()
	}
}

// verify starts the wait until the candidate of a successful run is seen writable; settled ends it.
func (r *runs) verify(run *run) {
	r.pending = run.next
	r.conclude(ended{hold: holdLost, id: run.id, old: run.old, next: run.next, why: "exit 0, not verified"})
}

// without forgets a run of which one server is gone. No hold is about it any more.
func (r *runs) without(i int) {
	if r.last != nil && (r.last.old == i || r.last.next == i) {
		r.last = nil
		r.changed()
	}
}

func (r *runs) settled() { assign(r.counter, &r.pending, -1) }

func (r *runs) cutOff(now time.Duration) {
	r.cut, r.cutAt = true, now
	r.changed()
}

func (r *runs) uncut() { assign(r.counter, &r.cut, false) }

// attempt counts a failover whose scripts start.
func (r *runs) attempt(at int64) {
	r.times = append(r.times, at)
	r.changed()
}

// forgetBefore drops the failovers that are no longer in the window.
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

// reset sets the count of failovers to 0 and ends the lock.
func (r *runs) reset() {
	r.times, r.locked = nil, false
	r.changed()
}

// restore takes over what the record says. A run that was in progress may still have processes.
func (r *runs) restore(rec *Record) {
	r.locked, r.times, r.blocker = rec.Locked, append([]int64(nil), rec.RunTimes...), rec.Blocker
	if rec.Run != nil && rec.Run.Phase == "started" {
		r.blocker = rec.Run.ID
	}
	r.changed()
}

// runner says whether a script could be started now. Only its own methods write it.
type runner struct {
	*counter
	up      bool
	why     string // why there is no usable link to the runner
	allowed bool   // this pgagroal alone uses state_dir
	holder  string // the processes that hold it instead, if known
}

func (r *runner) link(up bool, why string) {
	assign(r.counter, &r.up, up)
	assign(r.counter, &r.why, why)
}

func (r *runner) allow(allowed bool, holder string) {
	assign(r.counter, &r.allowed, allowed)
	assign(r.counter, &r.holder, holder)
}

// holders says which processes hold state_dir.
func (r *runner) holders() string {
	if r.holder == "" {
		return "children of an earlier supervisor hold state_dir"
	}
	return "left over from an earlier supervisor, " + r.holder + " holds state_dir"
}
