package supervisor

// clientHighWater is how many messages may wait for a worker before it gets no new
// clients. The rest of its queue is kept for messages that must not be lost.
const clientHighWater = queueLimit / 2

// leastLoaded returns the worker that gets the next client: the worker with the fewest
// clients among those whose queues are not too full. It returns nil when there is none.
func (s *supervisor) leastLoaded() *child {
	var best *child
	s.ready(func(c *child) {
		if c.drained || s.retires(c) || c.exit != nil || c.started.link.Len() >= clientHighWater || !s.mayFly(c) {
			return
		}
		if best == nil || len(c.clients) < len(best.clients) {
			best = c
		}
	})
	return best
}
