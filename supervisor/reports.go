package supervisor

import (
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// reportLimit is how long workers have for a report.
const reportLimit = time.Second

// reports are the questions to all workers that are under way.
type reports struct {
	nextID  uint64
	pending map[uint64]*report
}

// report is one of them: what has come so far.
type report struct {
	waiting  map[*child]bool
	workers  []workerReport
	sessions []workerSession
	limit    *timer
	done     func(*report)
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

// askReports asks all workers; done gets what came within the limit.
func (s *supervisor) askReports(sessions bool, done func(*report)) {
	r := &report{waiting: map[*child]bool{}, done: done}
	s.reports.nextID++
	id := s.reports.nextID
	if s.reports.pending == nil {
		s.reports.pending = map[uint64]*report{}
	}
	s.reports.pending[id] = r
	s.ready(func(c *child) { r.waiting[c] = true })
	for c := range r.waiting {
		s.send(c, &ipc.ReportRequest{ID: id, Sessions: sessions})
	}
	r.limit = s.after(reportLimit, func() { s.endReport(id, r) })
	if len(r.waiting) == 0 {
		s.endReport(id, r)
	}
}

func (s *supervisor) onReport(c *child, m *ipc.Report) {
	if r := s.reports.pending[m.ID]; r != nil && r.waiting[c] {
		r.workers = append(r.workers, workerReport{c.index, m})
	}
}

func (s *supervisor) onReportSession(c *child, m *ipc.ReportSession) {
	if r := s.reports.pending[m.ID]; r != nil && r.waiting[c] {
		r.sessions = append(r.sessions, workerSession{c.started.pid, m})
	}
}

func (s *supervisor) onReportEnd(c *child, m *ipc.ReportEnd) {
	if r := s.reports.pending[m.ID]; r != nil && r.waiting[c] {
		delete(r.waiting, c)
		if len(r.waiting) == 0 {
			s.endReport(m.ID, r)
		}
	}
}

func (s *supervisor) endReport(id uint64, r *report) {
	if s.reports.pending[id] == nil {
		return
	}
	delete(s.reports.pending, id)
	s.timers.stop(r.limit)
	r.done(r)
}

// reportsWithout goes on without a worker that has died.
func (s *supervisor) reportsWithout(c *child) {
	for id, r := range s.reports.pending {
		if r.waiting[c] {
			delete(r.waiting, c)
			if len(r.waiting) == 0 {
				s.endReport(id, r)
			}
		}
	}
}
