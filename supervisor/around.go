package supervisor

import (
	"errors"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// around is a request to the prober about one server, which may be sent to each of its addresses in turn. The preferred
// address is asked first, and the next one when an address has failed. Each has its share of the time that is left.
type around[T ipc.Message] struct {
	s       *supervisor
	server  int
	left    []address // not asked yet
	until   time.Duration
	request func(id uint64, t ipc.Target) ipc.Message
	failure func(T) string // what an answer says is wrong, "" for nothing
	done    func(T, error)
	look    *look
}

// lookAround asks until an address of the server answers without a failure. done gets that answer, or the failure of the
// address asked last, or an error of lookAt, which says nothing about the server. If no address is known, lookAround
// returns nil and never calls done.
func lookAround[T ipc.Message](s *supervisor, server int, timeout time.Duration,
	request func(id uint64, t ipc.Target) ipc.Message, failure func(T) string, done func(T, error),
) *around[T] {
	x := &around[T]{
		s: s, server: server, left: s.addressesOf(server), until: s.env.now() + timeout,
		request: request, failure: failure, done: done,
	}
	if len(x.left) == 0 {
		return nil
	}
	x.next()
	return x
}

func (x *around[T]) next() {
	timeout := max((x.until-x.s.env.now())/time.Duration(len(x.left)), time.Millisecond)
	t := x.s.targetAt(x.server, x.left[0], timeout)
	x.left = x.left[1:]
	x.look = lookAt(x.s, timeout, func(id uint64) ipc.Message { return x.request(id, t) }, func(m T, err error) {
		switch {
		case err != nil:
		case x.failure(m) == "":
		case len(x.left) > 0 && x.s.env.now() < x.until:
			x.next()
			return
		default:
			err = errors.New(x.failure(m))
		}
		x.done(m, err)
	})
}

// stop keeps the request from trying another address. The caller takes back the look that is under way.
func (x *around[T]) stop() { x.left = nil }
