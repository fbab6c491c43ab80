package supervisor

import (
	"encoding/json"
	"strings"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

const (
	// historyKept is how many entries are kept for pgagroal-cli.
	historyKept = 200
	// outputLines is how many of the last lines of a script go into an entry,
	// and outputRuns for how many runs they are kept.
	outputLines = 64
	outputRuns  = 4
)

// history is the list of decisions, and the output of the scripts that ran for them.
type history struct {
	entries []json.RawMessage // oldest first
	kept    uint64            // how many entries there have been, those that are no longer kept included
	runs    int               // of failover_script since the first entry, including runs that are no longer kept
	busy    bool              // a line is being written
	unsaved [][]byte          // lines to write after that
	failed  bool              // the last write failed; only the first failure in a row is logged
	outputs []output
}

// output is the tail of what one run wrote.
type output struct {
	run   string
	lines []string
}

// record adds an entry to the history in memory and to its file.
func (s *supervisor) record(e failover.HistoryEntry) {
	e.Wall = s.env.wall()
	if e.Output == "" && e.RunID != "" {
		e.Output = s.history.outputOf(e.RunID)
	}
	line, err := json.Marshal(e)
	if err != nil {
		s.log.Error("history entry can't be encoded", "error", err)
		return
	}
	h := &s.history
	h.keep(line)
	if !s.dir.Usable {
		return
	}
	h.unsaved = append(h.unsaved, append(line, '\n'))
	s.writeHistory()
}

func (h *history) keep(line json.RawMessage) {
	if isRun(line) {
		h.runs++
	}
	h.kept++
	h.entries = append(h.entries, line)
	if n := len(h.entries) - historyKept; n > 0 {
		h.entries = h.entries[n:]
	}
}

// isRun reports whether an entry tells of a run of failover_script. A run that the
// runner has refused is none.
func isRun(line json.RawMessage) bool {
	var e failover.HistoryEntry
	err := json.Unmarshal(line, &e)
	return err == nil && e.RunID != "" && e.Kind == failover.HookFailover && !strings.HasPrefix(e.Result, "refused")
}

func (s *supervisor) writeHistory() {
	h := &s.history
	if h.busy || len(h.unsaved) == 0 {
		return
	}
	line := h.unsaved[0]
	h.unsaved = h.unsaved[1:]
	h.busy = true
	dir := s.dir.Path
	elsewhere(s, func() (struct{}, error) { return struct{}{}, s.env.appendHistory(dir, line) }, func(_ struct{}, err error) {
		h.busy = false
		if err != nil && !h.failed {
			s.log.Error("history can't be written", "error", err)
		}
		h.failed = err != nil
		s.writeHistory()
		s.checkStopped()
	})
}

// addOutput keeps a line that a run has written.
func (h *history) addOutput(run, line string) {
	for i := range h.outputs {
		if o := &h.outputs[i]; o.run == run {
			o.lines = append(o.lines, line)
			if n := len(o.lines) - outputLines; n > 0 {
				o.lines = o.lines[n:]
			}
			return
		}
	}
	h.outputs = append(h.outputs, output{run, []string{line}})
	if n := len(h.outputs) - outputRuns; n > 0 {
		h.outputs = h.outputs[n:]
	}
}

func (h *history) outputOf(run string) string {
	for _, o := range h.outputs {
		if o.run == run {
			return strings.Join(o.lines, "\n")
		}
	}
	return ""
}
