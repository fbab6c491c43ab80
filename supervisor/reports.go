package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// reportLimit is how long workers have to send a report.
const reportLimit = time.Second

// reports are the rounds that collect a status for an operator, by id.
type reports map[uint64]*report

// report is one such round, with what the workers have sent so far.
type report struct {
	round    *round
	had      map[*child]int // number of sessions received, of each worker whose counters have come
	may      map[*child]int // how many leases and clients each worker had when it was asked
	workers  []workerReport
	sessions []workerSession
}

// workerReport is what one worker has counted.
type workerReport struct {
	index int
	*ipc.Report
}

// workerSession is a backend or a waiting client of a worker.
type workerSession struct {
	worker int // process id
	*ipc.ReportSession
}

// askReports asks all workers. done gets what they have sent within the limit.
func (s *supervisor) askReports(sessions bool, done func(*report)) {
	s.askReportsFor(&ipc.ReportRequest{Sessions: sessions}, done)
}

// askReportsFor asks all workers for what the request names; its ID is set here.
func (s *supervisor) askReportsFor(m *ipc.ReportRequest, done func(*report)) {
	r := &report{had: map[*child]int{}, may: map[*child]int{}}
	r.round = s.newRound(reportLimit, func() {
		delete(s.rounds.reports, r.round.id)
		done(r)
	})
	if s.rounds.reports == nil {
		s.rounds.reports = reports{}
	}
	s.rounds.reports[r.round.id] = r
	m.ID = r.round.id
	asked := s.everyReady()
	for _, c := range asked {
		r.may[c] = s.ledger.Held(c.index) + len(c.clients)
	}
	s.ask(r.round, asked, m)
}

// reportOf returns the report that the worker has not finished yet, or nil.
func (s *supervisor) reportOf(c *child, id uint64) *report {
	if r := s.rounds.reports[id]; r != nil && r.round.awaits(c) {
		return r
	}
	return nil
}

func (s *supervisor) onReport(c *child, m *ipc.Report) {
	if r := s.reportOf(c, m.ID); r != nil {
		if _, twice := r.had[c]; twice {
			s.violation(c, "it reports twice")
			return
		}
		r.had[c] = 0
		r.workers = append(r.workers, workerReport{c.index, m})
	}
}

func (s *supervisor) onReportSession(c *child, m *ipc.ReportSession) {
	if r := s.reportOf(c, m.ID); r != nil {
		if wrong := claimOfSession(m, r.had[c], r.may[c]); wrong != "" {
			s.violation(c, wrong)
			return
		}
		r.had[c]++
		r.sessions = append(r.sessions, workerSession{c.started.pid, m})
	}
}

func (s *supervisor) onReportEnd(c *child, m *ipc.ReportEnd) {
	if r := s.reportOf(c, m.ID); r != nil {
		s.answered(r.round, c)
	}
}
