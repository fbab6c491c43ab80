package supervisor

import (
	"errors"
	"fmt"
	"time"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// saveLimit is how long the actions after a Save wait for the record to be durable.
const saveLimit = 5 * time.Second

var (
	errNoStateDir = errors.New("there is no usable state_dir")
	errSaveLate   = fmt.Errorf("the record could not be written within %v", saveLimit)
)

// saver writes the record, one write at a time: an older record must never replace a
// newer one.
type saver struct {
	barrier bool           // the actions in the queue wait for current
	current failover.Save  // the Save that they wait for
	busy    bool           // a write is in progress, maybe of an older record
	next    *failover.Save // to be written after that
	limit   *timer
	failed  error // why the last record isn't durable, nil when it is
}

// save makes the record durable. No further action of the machine is carried out until
// this has succeeded or failed.
func (s *supervisor) save(a failover.Save) {
	v := &s.saver
	v.barrier, v.current = true, a
	if !s.dir.Usable {
		var err error
		if s.cfg.Failover { // without failover nothing needs to survive this process
			err = errNoStateDir
		}
		s.saved(a.Seq, err)
		return
	}
	v.limit = s.after(saveLimit, func() { s.saved(a.Seq, errSaveLate) })
	if v.busy {
		v.next = &a
		return
	}
	s.write(a)
}

func (s *supervisor) write(a failover.Save) {
	s.saver.busy = true
	dir := s.dir.Path
	elsewhere(s, func() (struct{}, error) {
		data, err := failover.EncodeRecord(a.Record)
		if err == nil {
			err = s.env.writeRecord(dir, data)
		}
		return struct{}{}, err
	}, func(_ struct{}, err error) { s.onWritten(a.Seq, err) })
}

func (s *supervisor) onWritten(seq uint64, err error) {
	v := &s.saver
	v.busy = false
	if v.next != nil {
		next := *v.next
		v.next = nil
		s.write(next)
	}
	s.saved(seq, err)
}

// saved ends the barrier of the Save with that number. It ignores a late answer to an
// older Save.
func (s *supervisor) saved(seq uint64, err error) {
	v := &s.saver
	if !v.barrier || v.current.Seq != seq {
		return
	}
	v.barrier, v.failed = false, err
	s.timers.stop(v.limit)
	// The actions of this event are queued behind those that waited; feed then carries
	// all of them out.
	s.feed(failover.SaveDone{Seq: seq, Err: err})
}
