package supervisor

import (
	"math"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// figures is what the loop counts only to show it. Everything grows from the start of the
// supervisor.
type figures struct {
	fenced  uint64                  // sessions that a fence has parted from their backends
	runs    map[ipc.RunCount]uint64 // by hook and outcome; N is not used
	last    time.Time               // when failover_script ended last with success
	phase   string
	entered time.Duration // when the machine came into phase
	phases  map[string]time.Duration
	changes []ipc.PhaseChange        // of the phase, oldest first
	lasting map[string]time.Duration // the phases since the pool was open
	lasted  map[string]time.Duration // those of the last failover
	servers []serverFigures
	wrote   []position // of the primary, oldest first
	writer  int        // which server that is
	logged  lineCounts // by prober, console and script runner
}

// lineCounts are numbers of lines of level info, warn, error and fatal.
type lineCounts [4]uint64

// add adds what a process has logged since its last report, which was was. It never counts
// down: now comes from a process that may have been taken over.
func (c *lineCounts) add(was *lineCounts, now []uint64) {
	for i := range min(len(c), len(now)) {
		if now[i] > was[i] {
			c[i] += now[i] - was[i]
			was[i] = now[i]
		}
	}
}

// serverFigures is what is counted of one server.
type serverFigures struct {
	probes map[string]uint64 // by outcome
	took   time.Duration     // all probes together
	seen   position          // its own latest position
}

// position is how far a server had come in the WAL at a time.
type position struct {
	lsn uint64
	at  time.Duration
}

// positionsKept is how many positions of the primary are kept, to tell since when a
// standby lacks what the primary has written.
const positionsKept = 128

// note counts what the machine is about to be told.
func (f *figures) note(wall time.Time, ev failover.Event) {
	switch ev := ev.(type) {
	case failover.RunEnded:
		f.ran(ev.Hook, outcomeOf(ev))
		if ev.Hook == failover.HookFailover && outcomeOf(ev) == "ok" {
			f.last = wall
		}
	case failover.ProbeDone:
		f.probed(ev)
	}
}

// outcomeOf is how a run ended, in one word.
func outcomeOf(ev failover.RunEnded) string {
	switch {
	case ev.Refused != "":
		return "refused"
	case ev.TimedOut:
		return "timeout"
	case ev.Signal != 0:
		return "signal"
	case ev.Exit != 0:
		return "failed"
	}
	return "ok"
}

// outcomeUnknown is that of a run whose runner was lost. An end that becomes known later counts, too.
const outcomeUnknown = "unknown"

// runOutcomes are all that there are.
var runOutcomes = [...]string{"ok", "failed", "timeout", "signal", "refused", outcomeUnknown}

func (f *figures) ran(hook, outcome string) {
	if f.runs == nil {
		f.runs = map[ipc.RunCount]uint64{}
	}
	f.runs[ipc.RunCount{Hook: hook, Outcome: outcome}]++
}

// allRuns returns a count for each hook and outcome. It includes those that are 0: a series
// that begins with its first run has no increase that an alert could see.
func (f *figures) allRuns() []ipc.RunCount {
	var all []ipc.RunCount
	for _, hook := range [...]string{failover.HookFence, failover.HookFailover, failover.HookNotify} {
		for _, outcome := range runOutcomes {
			r := ipc.RunCount{Hook: hook, Outcome: outcome}
			r.N = f.runs[r]
			all = append(all, r)
		}
	}
	return all
}

// occupy forgets how far the server had come that was in a slot. What is counted stays: it belongs to the name.
func (f *figures) occupy(slot int) {
	if slot < len(f.servers) {
		f.servers[slot].seen = position{}
	}
}

func (f *figures) probed(ev failover.ProbeDone) {
	for len(f.servers) <= ev.Server {
		f.servers = append(f.servers, serverFigures{probes: map[string]uint64{}})
	}
	sv := &f.servers[ev.Server]
	sv.probes[ev.Outcome.String()]++
	sv.took += ev.Ended - ev.Started
	switch ev.Outcome {
	case failover.SawPrimary:
		n := len(f.wrote)
		if f.writer != ev.Server || n > 0 && f.wrote[n-1].lsn > ev.Obs.WriteLSN { // another primary, or another timeline
			f.writer, f.wrote, n = ev.Server, nil, 0
		}
		if n == 0 || f.wrote[n-1].lsn != ev.Obs.WriteLSN {
			f.wrote = append(thinned(f.wrote, ev.Ended), position{ev.Obs.WriteLSN, ev.Ended})
		}
	case failover.SawStandby:
		sv.seen = position{max(ev.Obs.ReceiveLSN, ev.Obs.ReplayLSN), ev.Ended}
	}
}

// thinned makes room when the list is full. It drops the position that is missed least: the
// one between whose neighbours there is the least time, for its age. The lag of a standby
// that is hours behind is then a few per cent too small, but not cut off.
func thinned(list []position, now time.Duration) []position {
	if len(list) < positionsKept {
		return list
	}
	least, drop := math.Inf(1), 1
	for i := 1; i < len(list)-1; i++ {
		gap := float64(list[i+1].at-list[i-1].at) / float64(now-list[i].at)
		if gap < least {
			least, drop = gap, i
		}
	}
	return slices.Delete(list, drop, drop+1)
}

// lag returns for how long, at its last probe, a standby had lacked something that the
// primary had written; -1 if that is unknown.
func (f *figures) lag(server int) time.Duration {
	if server >= len(f.servers) || f.servers[server].seen.lsn == 0 || len(f.wrote) == 0 {
		return -1
	}
	has := f.servers[server].seen
	for _, p := range f.wrote {
		if p.lsn > has.lsn {
			return max(has.at-p.at, 0)
		}
	}
	return 0
}

// entersPhase notes the machine's phase.
func (f *figures) entersPhase(now time.Duration, phase string) {
	if f.phases == nil {
		f.phases = map[string]time.Duration{}
	}
	if f.phase != "" {
		f.phases[f.phase] += now - f.entered
		f.passes(phase, now-f.entered)
	}
	f.phase, f.entered = phase, now
}

// passes adds the phase that ends now to the failover under way. A suspicion that proved
// false is none: nothing was fenced.
func (f *figures) passes(next string, took time.Duration) {
	if !calmPhases[f.phase] {
		if f.lasting == nil {
			f.lasting = map[string]time.Duration{}
		}
		f.lasting[f.phase] += took
	}
	if !calmPhases[next] {
		return
	}
	if _, fenced := f.lasting[failover.PhaseFencing.String()]; fenced {
		f.lasted = f.lasting
	}
	f.lasting = nil
}

// calmPhases are those outside a failover.
var calmPhases = map[string]bool{failover.PhaseStarting.String(): true, failover.PhaseOpen.String(): true, failover.HookNotify: true}

// clear sets the counters back to zero. What describes the servers and the last failover stays.
func (f *figures) clear(now time.Duration) {
	f.fenced, f.runs, f.phases, f.entered, f.logged = 0, nil, map[string]time.Duration{}, now, lineCounts{}
	for i := range f.servers {
		f.servers[i].probes, f.servers[i].took = map[string]uint64{}, 0
	}
}
